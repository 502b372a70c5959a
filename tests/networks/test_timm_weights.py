"""Weights that timm publishes, by name: from the hub's cache, which the tests make; nothing is downloaded here."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from cvm_monai.networks import build_network, timm_weights
from cvm_monai.networks.extractor_files import absolute_extractor, checked_extractor
from cvm_monai.networks.frozen import FrozenExtractor
from cvm_monai.networks.timm_weights import pinned_name, published_state

COMMIT, OLDER = "a" * 40, "b" * 40
NAME = "resnet18.a1_in1k"


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    timm_weights._revision.cache_clear()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A library that knows two names, of which it publishes one, and reaches no network."""

    def load(place: str, weights_only: bool) -> None:
        raise ConnectionError("Cannot reach huggingface.co: offline mode is enabled.\nmore lines")

    found: Any = ModuleType("timm")
    found.__version__, found.is_model, found.list_models = "1.0", ["resnet18", "own"].__contains__, lambda: ["resnet18"]
    found.get_pretrained_cfg = lambda name: SimpleNamespace(hf_hub_id="timm/x" if name == "resnet18" else None)
    found.models = SimpleNamespace(load_state_dict_from_hf=load)
    monkeypatch.setitem(__import__("sys").modules, "timm", found)
    return found


def load_into_resnet34(path: str) -> None:
    build_network("resnet34_unet", channels=(8, 8, 8, 8, 8), encoder_weights=path)


@pytest.mark.parametrize(
    "ask", [load_into_resnet34, checked_extractor, absolute_extractor, FrozenExtractor, published_state]
)
def test_without_network_and_cache_it_says_so_in_one_sentence(library: Any, ask: Any) -> None:
    with pytest.raises(ValueError, match=r"the published weights of timm:resnet18 are not in the cache") as caught:
        ask("timm:resnet18@pretrained")
    assert str(caught.value).endswith(
        "(Cannot reach huggingface.co: offline mode is enabled): connect this machine once, or give their file"
    )


def test_what_is_not_published_and_what_has_weights_twice_is_refused(library: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"timm publishes no weights of own .*: give their file by --extractor_weights"
    ):
        checked_extractor("timm:own@pretrained")
    with pytest.raises(ValueError, match=r"takes the published weights: drop --extractor_weights"):
        checked_extractor("timm:resnet18@pretrained", tmp_path / "net.pt")
    with pytest.raises(ValueError, match="has no weights: write timm:resnet18@pretrained"):
        published_state("timm:resnet18")


def test_nothing_is_asked_of_the_hub_without_the_option(library: Any) -> None:
    assert checked_extractor("timm:resnet18@stages") == absolute_extractor("timm:resnet18@stages")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An offline cache with two revisions of a network, and the states of both."""
    try:
        import huggingface_hub
        import safetensors.torch
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm is not usable here: {error}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    states = {}
    for seed, (commit, name) in enumerate([(COMMIT, NAME), (OLDER, NAME), (COMMIT, "resnet34.a1_in1k")]):
        torch.manual_seed(seed)
        folder = tmp_path / f"models--timm--{name}"
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(COMMIT)
        (folder / "snapshots" / commit).mkdir(parents=True)
        states[name, commit] = timm.create_model(name.partition(".")[0], pretrained=False).state_dict()
        safetensors.torch.save_file(states[name, commit], folder / "snapshots" / commit / "model.safetensors")
    return states


def weights_of(extractor: FrozenExtractor) -> torch.Tensor:
    weight: torch.Tensor = extractor.state_dict()["network.model.conv1.weight"]
    return weight


def test_published_weights_come_from_the_offline_cache_with_their_revision(hub: dict[str, Any]) -> None:
    extractor = FrozenExtractor("timm:resnet18@pretrained")
    assert extractor.path == f"timm:resnet18@pretrained:{COMMIT}"
    assert torch.equal(weights_of(extractor), hub[NAME, COMMIT]["conv1.weight"])
    assert absolute_extractor("timm:resnet18@pretrained") == extractor.path


def test_a_recorded_revision_is_taken_again(hub: dict[str, Any]) -> None:
    extractor = FrozenExtractor(f"timm:{NAME}@pretrained:{OLDER}")
    assert torch.equal(weights_of(extractor), hub[NAME, OLDER]["conv1.weight"])
    assert pinned_name(extractor.path) == extractor.path
    with pytest.raises(ValueError, match=r"published weights of timm:resnet18 are not in the cache"):
        FrozenExtractor(f"timm:resnet18@pretrained:{'c' * 40}")
    with pytest.raises(ValueError, match=r"timm has no published weights 'resnet18\.none'"):
        FrozenExtractor("timm:resnet18.none@pretrained")


def test_stages_of_several_strides_are_joined(hub: dict[str, Any]) -> None:
    extractor, image = FrozenExtractor("timm:resnet18@pretrained+stages"), torch.rand(1, 3, 64, 96)
    assert (extractor.channels, extractor.stride) == (128 + 256 + 512, 8)
    stages = extractor.stages(image)
    assert [maps.shape[-2:] for maps in stages] == [(8, 12), (4, 6), (2, 3)]
    found = extractor(image)
    torch.testing.assert_close(found[:, :128], torch.nn.functional.normalize(stages[0], dim=1))
    last = FrozenExtractor("timm:resnet18@pretrained")
    torch.testing.assert_close(stages[2], last(image))
    assert len(last.stages(image)) == 1


def test_one_stride_cannot_be_joined(hub: dict[str, Any]) -> None:
    with (
        pytest.warns(UserWarning, match="has random weights"),
        pytest.raises(ValueError, match=r"has no stages to join, only stride 16: drop @stages"),
    ):
        FrozenExtractor("timm:vit_tiny_patch16_224@stages")


def test_the_resnet34_of_the_u_net_takes_the_published_weights(hub: dict[str, Any]) -> None:
    path = "timm:resnet34@pretrained"
    network: Any = build_network("resnet34_unet", channels=(8, 8, 8, 8, 8), encoder_weights=path)
    expected = hub["resnet34.a1_in1k", COMMIT]
    assert all(torch.equal(value, expected[key]) for key, value in network.encoder.state_dict().items())
    assert absolute_extractor(path) == f"{path}:{COMMIT}"
    with pytest.raises(ValueError, match=r"timm:resnet18@pretrained is not a ResNet34: it has .* of the encoder's"):
        build_network("resnet34_unet", encoder_weights="timm:resnet18@pretrained")


def test_a_trained_network_is_built_without_the_published_weights(hub: dict[str, Any]) -> None:
    """Of a revision that the cache does not have."""
    path = f"timm:resnet18@pretrained:{'c' * 40}"
    network: Any = build_network("frozen_probe", extractor_path=path, pretrained=False)
    assert network.extractor.channels == 512
