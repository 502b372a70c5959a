"""The U-Net on the features of a frozen extractor."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks import build_network

from .test_frozen import Pooled, save_script

NARROW = [4, 4, 4, 4, 4]


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_script(Pooled(), tmp_path_factory.mktemp("script") / "pooled.pt")


class Patches(nn.Module):
    """Means over squares of 7 px and of what is left: a stride that does not divide 32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, 7, ceil_mode=True)


def built(path: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return build_network("frozen_two_component", extractor_path=path, channels=NARROW, **options).eval()


@pytest.mark.parametrize("size, expected", [((64, 96), (8, 12)), ((65, 130), (9, 17)), ((32, 33), (4, 5))])
@torch.no_grad()
def test_the_output_has_the_extractor_s_stride(pooled: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    network = built(pooled, out_channels=3)
    assert network.stride == 8
    assert network.output_shape(*size) == expected
    image = torch.rand(2, 3, *size)
    logits, features = network.features(image)
    assert logits.shape == (2, 3, *expected)
    assert features.shape == (2, 4, *expected)
    torch.testing.assert_close(network(image), logits)


@torch.no_grad()
def test_the_u_net_sees_feature_vectors_of_one_length(pooled: str) -> None:
    network, image = built(pooled), torch.rand(1, 3, 64, 64)
    vectors = network.extractor(image)
    scaled = vectors / vectors.square().mean(dim=1, keepdim=True).sqrt()
    mixed = torch.einsum("oc,bchw->bohw", network.in_conv.weight[:, :, 0, 0], scaled)
    torch.testing.assert_close(network(image), network.unet(mixed), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_another_stride_is_resampled_to_sixteen_pixels(tmp_path: Path) -> None:
    network = built(save_script(Patches(), tmp_path / "patches.pt"))
    assert network.stride == 16
    assert network(torch.rand(1, 3, 65, 130)).shape == (1, 2, 5, 9)


def test_the_u_net_learns_and_the_extractor_does_not(pooled: str) -> None:
    network = built(pooled).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    network(torch.rand(1, 3, 128, 128)).square().sum().backward()
    optimizer.step()
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert {"in_conv.weight", "unet.out.weight", "unet.down1.0.weight"} <= moved
    assert not [key for key in moved if key.startswith("extractor.")]


def test_a_second_decoder_reads_the_same_maps(pooled: str) -> None:
    network, image = built(pooled), torch.rand(1, 3, 64, 64)
    maps = network.encode(image)
    assert network.new_decoder().decode(maps, 8, 8)[0].shape == network.decode(maps, 8, 8)[0].shape == (1, 2, 8, 8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "a frozen extractor is needed: give its file, timm:NAME or imagenet, by --extractor_path"),
        (
            {"extractor_path": "x", "encoder_weights": "y"},
            "takes its extractor by extractor_path: drop encoder_weights",
        ),
        ({"extractor_path": "x", "in_channels": 4}, "in_channels must be 3 for a frozen extractor, not 4"),
        ({"extractor_path": "x", "channels": [4]}, "channels must be five positive widths"),
    ],
)
def test_arguments_that_make_no_network_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network("frozen_two_component", **arguments)
