"""MONAI's own checks and exports of the bundle."""

import json
import shutil

import numpy as np
import pytest
import torch
from monai.bundle import ckpt_export, onnx_export, verify_metadata, verify_net_in_out

from cvm_monai import __version__
from cvm_monai.networks import build_network

from .conftest import BUNDLE, INFERENCE, TRAIN

META = str(BUNDLE / "configs" / "metadata.json")


def test_the_metadata_fit_the_schema(shared_dir, tmp_path):
    schema = tmp_path / "schema.json"  # a file that is there is not downloaded
    shutil.copyfile(shared_dir / "reference" / "meta_schema_20240725.json", schema)
    verify_metadata(meta_file=META, filepath=str(schema))


def test_the_metadata_agree_with_the_package_and_the_network():
    meta = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert meta["version"] == __version__
    assert meta["version"] in meta["changelog"]
    network = build_network("resnet34_unet")
    out = network(torch.zeros(1, meta["network_data_format"]["inputs"]["image"]["num_channels"], 64, 64))
    assert out.shape[1] == meta["network_data_format"]["outputs"]["pred"]["num_channels"]
    assert len(meta["network_data_format"]["outputs"]["pred"]["channel_def"]) == out.shape[1]


@pytest.mark.parametrize("config", [TRAIN, INFERENCE])
@pytest.mark.parametrize("n", [1, 2, 8])
def test_the_network_takes_and_gives_what_the_metadata_say(config, n, tmp_path):
    verify_net_in_out("network_def", meta_file=META, config_file=config, device="cpu", n=n, output_dir=str(tmp_path))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    network = build_network("resnet34_unet", normalisation="batch").eval()  # there is no record that says otherwise
    torch.save(network.state_dict(), folder / "model.pt")
    return network, folder


@pytest.mark.ci
def test_torchscript_export_gives_the_same_logits_at_other_sizes(checkpoint):
    network, folder = checkpoint
    target = folder / "model.ts"
    ckpt_export("network_def", str(target), str(folder / "model.pt"), META, INFERENCE, output_dir=str(folder))
    loaded = torch.jit.load(target).eval()
    for shape in ((1, 3, 64, 64), (2, 3, 97, 130)):
        image = torch.rand(shape)
        torch.testing.assert_close(loaded(image), network(image))


@pytest.mark.ci
def test_onnx_export_gives_the_same_logits_at_other_sizes(checkpoint):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    network, folder = checkpoint
    target = folder / "model.onnx"
    axes = {0: "b", 2: "h", 3: "w"}
    onnx_export(
        "network_def",
        str(target),
        ckpt_file=str(folder / "model.pt"),
        meta_file=META,
        config_file=INFERENCE,
        converter_kwargs={
            "dynamo": False,
            "input_names": ["image"],
            "output_names": ["pred"],
            "dynamic_axes": {"image": axes, "pred": axes},
        },
        output_dir=str(folder),
    )
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 64), (2, 3, 97, 130)):
        image = torch.rand(shape)
        with torch.no_grad():
            expected = network(image).numpy()
        (found,) = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
