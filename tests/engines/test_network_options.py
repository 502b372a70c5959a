"""The network as it trains: the same weights by the same names, whatever the order of memory or the compiler."""

import copy
import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

from cvm_monai.engines import training_network
from cvm_monai.engines.network_options import check_compiler, check_sync_batchnorm
from cvm_monai.networks import FeatureStore, build_network
from cvm_monai.supervision.moving_average import MovingAverage


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("unet", channels=[4, 4, 4, 4, 4], normalisation="batch").eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("knobs", [{}, {"channels_last": True}, {"compile": True, "backend": "eager"}])
def test_the_network_stays_the_same_object_with_the_same_names_and_results(network, image, knobs):
    with torch.no_grad():
        names, before = list(network.state_dict()), network(image)
        assert training_network(network, device="cpu", **knobs) is network
        torch.testing.assert_close(network(image), before, rtol=0, atol=1e-5)
    assert list(network.state_dict()) == names


def test_channels_last_changes_the_order_of_the_weights_in_memory(network):
    weights = [p for p in training_network(network, device="cpu", channels_last=True).parameters() if p.ndim == 4]
    assert weights
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile translates to C++, and there is no g++")
def test_the_translated_network_gives_the_same_results_and_gradients(network, image):
    plain = copy.deepcopy(network)
    training_network(network, device="cpu", compile=True)
    for one in (plain, network):
        one(image).square().mean().backward()
    for before, after in zip(plain.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(after.grad, before.grad, rtol=1e-4, atol=1e-6)


def test_forward_is_compiled_and_features_are_not(network, image):
    seen = []

    def backend(graph, inputs):
        seen.append(len(inputs))
        return graph.forward

    training_network(network, device="cpu", compile=True, backend=backend)
    with torch.no_grad():
        network.features(image)
        assert not seen
        network(image)
    assert seen


@torch.no_grad()
def test_a_compiled_network_calls_the_store_outside_of_its_graphs(image, tmp_path):
    path = str(tmp_path / "pooled.pt")
    torch.jit.trace(nn.AvgPool2d(8), image).save(path)
    network = build_network("frozen_probe", extractor_path=path, feature_store=FeatureStore(tmp_path / "store")).eval()
    images = [image, image.flip(-1), image.flip(-2), image.flip(-1)]
    expected, graphs = [network(each) for each in images], []

    def backend(graph, inputs):
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    training_network(network, device="cpu", compile=True, backend=backend)
    for each, maps in zip(images, expected, strict=True):
        torch.testing.assert_close(network(each), maps, rtol=0, atol=1e-6)
    assert len(graphs) == 2, "one graph before the store and one after it, whatever the image"


@pytest.mark.ci
def test_the_compiler_is_not_imported_with_the_engines():
    code = "import sys, cvm_monai.engines; print({'torch._dynamo', 'triton'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_moving_average_copies_a_compiled_network(network, image):
    training_network(network, device="cpu", compile=True, backend="eager")
    with torch.no_grad():
        expected = network(image)
        average = MovingAverage(network, buffers="average")
        torch.testing.assert_close(average.network.eval()(image), expected, rtol=0, atol=1e-5)
    assert list(average.state_dict()) == list(network.state_dict())


def test_a_lone_process_keeps_its_own_normalisation(network):
    training_network(network, device="cpu", sync_batchnorm=True)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())


def test_several_processes_join_their_normalisation_by_the_same_names(network, monkeypatch):
    monkeypatch.setattr("cvm_monai.engines.network_options.idist.get_world_size", lambda: 2)
    monkeypatch.setattr("cvm_monai.engines.network_options.check_sync_batchnorm", lambda device: None)
    names = list(network.state_dict())
    assert training_network(network, device="cpu", sync_batchnorm=True) is network
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(module, nn.SyncBatchNorm) for module in norms)
    assert list(network.state_dict()) == names


def test_joined_normalisation_without_gpus_is_refused(network, monkeypatch):
    monkeypatch.setattr("cvm_monai.engines.network_options.idist.get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="--sync_batchnorm True needs GPUs, and the device is cpu: leave it out"):
        training_network(network, device="cpu", sync_batchnorm=True)
    check_sync_batchnorm("cuda:1")


def test_a_missing_compiler_is_said_before_the_training(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    check_compiler("cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--compile True needs the package triton on a GPU"):
        check_compiler("cuda:0")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="--compile True needs a C\\+\\+ compiler, and there is none on the path"):
        check_compiler("cpu")
