"""What every network promises: shapes, Feature Map 2, scripting, gradients, arguments."""

import subprocess
import sys
from typing import Any, get_args

import pytest
import torch
from torch import nn

from cvm_monai.knobs import NetworkName
from cvm_monai.networks import NETWORK_NAMES, build_network
from cvm_monai.networks.blocks import DoubleConv, pad_to_multiple

CHANNELS = {"resnet34_unet": (24, 16, 16, 8, 12), "unet": (8, 12, 16, 16, 24), "two_component": (8, 12, 16, 16, 24)}
FEATURE_CHANNELS = {"resnet34_unet": 12, "unet": 8, "two_component": 8}
SIZES = [(32, 32), (33, 47), (64, 64), (65, 130)]
SIXTEENTHS = {(32, 32): (2, 2), (33, 47): (3, 3), (64, 64): (4, 4), (65, 130): (5, 9)}


@pytest.fixture(scope="module", params=CHANNELS)
def named(request: pytest.FixtureRequest) -> tuple[str, Any]:
    torch.manual_seed(0)
    return request.param, build_network(request.param, channels=CHANNELS[request.param]).eval()


@pytest.fixture(scope="module")
def scripted(named: tuple[str, Any]) -> Any:
    return torch.jit.script(named[1])


def expected_size(name: str, size: tuple[int, int]) -> tuple[int, int]:
    return SIXTEENTHS[size] if name == "two_component" else size


def test_names_are_the_literal() -> None:
    assert (
        get_args(NetworkName)
        == NETWORK_NAMES
        == (
            "resnet34_unet",
            "unet",
            "two_component",
            "timm_unet",
            "frozen_probe",
            "centred_probe",
            "frozen_two_component",
        )
    )


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_logits_and_features_have_the_promised_shape_at_any_size(named: tuple[str, Any], size: tuple[int, int]) -> None:
    name, network = named
    image = torch.rand(2, 3, *size)
    logits, features = network.features(image)
    assert logits.shape == (2, 2, *expected_size(name, size))
    assert features.shape == (2, FEATURE_CHANNELS[name], *expected_size(name, size))
    assert network.output_shape(*size) == expected_size(name, size)
    assert torch.equal(network(image), logits)


def test_stride_is_16_for_the_two_component_network_only(named: tuple[str, Any]) -> None:
    assert named[1].stride == (16 if named[0] == "two_component" else 1)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_scripted_equals_eager(named: tuple[str, Any], scripted: Any, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    logits, features = named[1].features(image)
    torch.testing.assert_close(scripted(image), logits)
    torch.testing.assert_close(scripted.features(image)[1], features)


@torch.no_grad()
def test_an_image_is_segmented_alike_alone_and_in_a_batch(named: tuple[str, Any]) -> None:
    images = torch.rand(3, 3, 40, 70)
    single = torch.cat([named[1](image[None]) for image in images])
    torch.testing.assert_close(named[1](images), single, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_padding_repeats_the_border(named: tuple[str, Any]) -> None:
    """An image that goes on beyond its border as it ends there, up to a size that halves evenly, gives the same."""
    name, network = named
    image = torch.rand(1, 3, 70, 90)
    rows = 96 if name == "resnet34_unet" else 80  # multiples of 32, and of 16
    longer = nn.functional.pad(image, (0, 96 - 90, 0, rows - 70), mode="replicate")
    height, width = network.output_shape(70, 90)
    torch.testing.assert_close(network(image), network(longer)[..., :height, :width], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [32, 64])
def test_one_image_trains_and_the_gradient_reaches_every_parameter(named: tuple[str, Any], size: int) -> None:
    name = named[0]
    network = build_network(name, channels=CHANNELS[name]).train()
    network(torch.rand(1, 3, size, size)).square().sum().backward()
    without = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
    stem = network.down1[0] if name == "unet" else network.encoder.conv1
    assert float(stem.weight.grad.abs().max()) > 0


def test_more_classes_and_channels(named: tuple[str, Any]) -> None:
    network = build_network(named[0], in_channels=4, out_channels=3, channels=(8, 8, 8, 8, 8)).eval()
    assert network(torch.rand(1, 4, 64, 64)).shape[:2] == (1, 3)


def test_default_feature_maps() -> None:
    assert build_network("unet").out.in_channels == 64
    assert build_network("two_component").unet.out.in_channels == 64
    assert build_network("resnet34_unet").out.in_channels == 32


def test_the_unet_has_the_widths_of_the_paper() -> None:
    network = build_network("unet")
    convolutions = [
        (u.conv[0].in_channels, u.conv[0].out_channels, u.conv[3].out_channels)
        for u in (network.up1, network.up2, network.up3, network.up4)
    ]
    assert convolutions == [(1024, 256, 256), (512, 128, 128), (256, 64, 64), (128, 64, 64)]
    assert network.up1.conv[0].bias is not None
    assert network.out.bias is None


def test_pad_to_multiple_repeats_the_last_row_and_column_up_to_two_multiples() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])[None, None]
    expected = torch.tensor([[1.0, 2, 3, 3], [4, 5, 6, 6], [7, 8, 9, 9], [7, 8, 9, 9]])
    assert torch.equal(pad_to_multiple(x, 2)[0, 0], expected)
    assert pad_to_multiple(x, 4).shape == (1, 1, 8, 8)  # one multiple becomes two
    assert torch.equal(pad_to_multiple(x, 1), x)
    assert pad_to_multiple(torch.zeros(1, 1, 33, 64), 16).shape[2:] == (48, 64)


def test_convolutions_keep_the_scale_of_the_signal() -> None:
    """Kaiming's weights: variance 2 / (9 * out_channels) each."""
    torch.manual_seed(0)
    weight = DoubleConv(64, 64, bias=True, normalisation="batch")[0].weight
    assert float(weight.detach().var()) == pytest.approx(2 / (9 * 64), rel=0.05)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "segnet"}, "unknown network 'segnet': choose one of resnet34_unet, unet, two_component"),
        ({"name": "unet", "channels": (8, 8)}, r"channels must be five positive widths, not \[8, 8\]"),
        ({"name": "resnet34_unet", "channels": (8, 8, 8, 8, 0)}, "decoder_channels must be five positive widths"),
        ({"name": "unet", "out_channels": 1}, "out_channels must be at least 2 .*, not 1"),
        ({"name": "two_component", "in_channels": 0}, "in_channels must be at least 1, not 0"),
        ({"name": "unet", "encoder_weights": "w.pth"}, "'unet' has no ResNet34 encoder"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(**arguments)


def test_naming_the_choices_loads_neither_torch_nor_monai() -> None:
    code = "import sys, cvm_monai.networks; print({'torch', 'monai'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_features_are_the_decoded_maps_of_the_encoder(named: tuple[str, Any], size: tuple[int, int]) -> None:
    _, network = named
    image = torch.rand(2, 3, *size)
    for found, expected in zip(
        network.decode(network.encode(image), *network.output_shape(*size)), network.features(image), strict=True
    ):
        assert torch.equal(found, expected)


@torch.no_grad()
def test_a_new_decoder_takes_the_same_maps_and_shares_no_weight(named: tuple[str, Any]) -> None:
    _, network = named
    keys = list(network.state_dict())
    decoder = network.new_decoder().eval()
    assert list(network.state_dict()) == keys
    own = {id(parameter) for parameter in network.parameters()}
    assert not own & {id(parameter) for parameter in decoder.parameters()}
    suffixes = {key.removeprefix("unet.") for key in keys if not key.startswith(("encoder", "detail", "in_conv"))}
    assert {key for key in suffixes if "down" not in key} == set(decoder.state_dict())
    maps = network.encode(torch.rand(1, 3, 40, 70))
    shape = network.output_shape(40, 70)
    logits, features = decoder.decode(maps, *shape)
    assert [logits.shape, features.shape] == [part.shape for part in network.decode(maps, *shape)]
    assert not torch.equal(logits, network.decode(maps, *shape)[0])


def test_a_new_decoder_s_convolutions_start_as_all_do() -> None:
    decoder = build_network("unet", channels=(32, 32, 32, 32, 32), normalisation="batch").new_decoder()
    first = decoder.up1.conv[0]
    assert first.weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)  # Kaiming's, by fan-out
    assert (first.bias == 0).all()
    assert (decoder.up1.conv[1].running_mean == 0).all()
