"""ONNX with dynamic sizes, in the two ways of `monai.bundle onnx_export`: traced (`dynamo=False`) and torch.export."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cvm_monai.networks import build_network

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

AXES = {"image": {0: "b", 2: "h", 3: "w"}, "pred": {0: "b", 2: "oh", 3: "ow"}}
SIZES = [(1, 32, 32), (2, 33, 47), (3, 64, 64), (1, 65, 130), (1, 200, 36)]


def assert_exports(name: Any, folder: Path, *, dynamo: bool, size: int) -> None:
    """Exported from one image of `size` px, onnxruntime agrees with torch at other sizes and batches."""
    torch.manual_seed(0)
    network = build_network(name, channels=(8, 12, 16, 16, 24)).eval()
    precise = copy.deepcopy(network).double()
    path = folder / "network.onnx"
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": AXES}
    torch.onnx.export(network, (torch.rand(1, 3, size, size),), f=path, dynamo=dynamo, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, height, width in SIZES:
        image = torch.rand(batch, 3, height, width)
        with torch.no_grad():
            expected, exact = network(image).numpy(), precise(image.double()).numpy()
        ours = session.run(None, {"image": image.numpy()})[0]
        scale = float(np.abs(exact).max())  # untrained logits are large: the tolerance is relative to them
        rounding = float(np.abs(expected - exact).max())  # of torch itself: maps of 2 x 2 px amplify it
        np.testing.assert_allclose(ours, exact, rtol=0, atol=max(1e-4 * max(1.0, scale), 2 * rounding))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traced_export_of_the_unet_is_dynamic(tmp_path: Path) -> None:
    assert_exports("unet", tmp_path, dynamo=False, size=64)


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["resnet34_unet", "two_component"])
def test_traced_export_is_dynamic(name: str, tmp_path: Path) -> None:
    assert_exports(name, tmp_path, dynamo=False, size=64)


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["resnet34_unet", "unet", "two_component"])
def test_torch_export_is_dynamic(name: str, tmp_path: Path) -> None:
    assert_exports(name, tmp_path, dynamo=True, size=32)
