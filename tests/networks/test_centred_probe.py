"""A linear layer on frozen features less their image's mean, and the mean of an image that is seen in parts."""

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from scipy.ndimage import gaussian_filter
from torch import nn
from torch.nn import functional

from cvm_monai.inference.predict import WindowInferer
from cvm_monai.networks import build_network
from cvm_monai.networks.centred_probe import ImageMean, shared_means


class Pooled(nn.Module):
    """The means over squares of 8 pixels: three features at stride 8 without any context."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, 8)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("script") / "pooled.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Pooled()).save(str(path))
    return str(path)


def build(pooled: str, name: str = "centred_probe") -> Any:
    torch.manual_seed(0)
    return build_network(name, extractor_path=pooled).eval()  # type: ignore[arg-type]


def test_each_image_loses_its_own_mean() -> None:
    batch = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]], [[[0.0, 0.0], [0.0, 4.0]]]])
    assert ImageMean()(batch).tolist() == [[[[-2, -1], [0, 3]]], [[[-1, -1], [-1, 3]]]]


def test_parts_of_an_image_lose_the_mean_of_all_of_it() -> None:
    mean, parts = ImageMean(), [torch.full((1, 1, 1, 3), 2.0), torch.full((1, 1, 1, 1), 6.0)]
    with shared_means(nn.Sequential(mean), lambda: [mean(part) for part in parts]):
        assert [mean(part).flatten().tolist() for part in parts] == [[-1, -1, -1], [3]]  # 3 is the mean of all four
    assert mean(parts[1]).item() == 0


def test_the_mean_is_let_go_after_an_error() -> None:
    mean = ImageMean()
    seen = []

    def broken() -> None:
        with shared_means(mean, lambda: mean(torch.ones(1, 1, 1, 1))):
            seen.append(mean(torch.full((1, 1, 1, 1), 3.0)).item())
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        broken()
    assert seen == [2]
    assert mean(torch.full((1, 1, 1, 1), 3.0)).item() == 0


def test_another_thread_keeps_the_mean_of_its_own_image() -> None:
    mean, image, found = ImageMean(), torch.full((1, 1, 1, 1), 3.0), []
    with shared_means(mean, lambda: mean(torch.ones(1, 1, 1, 1))):
        other = threading.Thread(target=lambda: found.append(mean(image).item()))
        other.start()
        other.join()
        found.append(mean(image).item())
    assert found == [0, 2]


def test_a_network_without_means_is_shown_nothing() -> None:
    with shared_means(nn.Identity(), lambda: pytest.fail("shown")):
        pass


@torch.no_grad()
def test_the_logits_are_smoothed_ones_of_a_linear_layer_on_centred_vectors_of_one_length(
    pooled: str,
) -> None:
    network, image = build(pooled), torch.rand(1, 3, 64, 64)
    found = functional.avg_pool2d(image, 8)[0].double().numpy()
    centred = found - found.mean((1, 2), keepdims=True)
    vectors = centred / np.linalg.norm(centred, axis=0) * 3**0.5
    weight, bias = (part.detach().double().numpy() for part in (network.out.weight[:, :, 0, 0], network.out.bias))
    expected = np.einsum("kc,cij->kij", weight, vectors) + bias[:, None, None]
    expected = gaussian_filter(expected, sigma=1, mode="nearest", truncate=3, axes=(1, 2))
    logits = functional.interpolate(torch.from_numpy(expected)[None], (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(image), logits.float())
    assert network.features(image)[1].shape == (1, 3, 64, 64)


@torch.no_grad()
def test_what_all_pixels_share_changes_nothing(pooled: str) -> None:
    image, tint = torch.rand(1, 3, 64, 96), torch.tensor([0.3, -0.2, 0.1])[:, None, None]
    centred, plain = build(pooled), build(pooled, "frozen_probe")
    torch.testing.assert_close(centred(image + tint), centred(image), rtol=0, atol=1e-4)
    assert (plain(image + tint) - plain(image)).abs().max() > 0.1


@torch.no_grad()
def test_windows_of_a_large_image_give_what_one_pass_gives(pooled: str) -> None:
    """Left and right differ: with its own mean each window would call its brighter half the same."""
    network, image = build(pooled), torch.rand(1, 3, 64, 256)
    image[..., 128:] += 1
    whole = network(image)
    found = WindowInferer(window=128, overlap=0)(image, network)
    inside = [slice(32, 96), slice(160, 224)]  # smoothing and bilinear resampling end at a window's border
    for columns in inside:
        torch.testing.assert_close(found[..., columns], whole[..., columns], rtol=0, atol=1e-4)
    alone = SlidingWindowInferer((64, 128), overlap=0)(image, network)
    assert isinstance(alone, torch.Tensor)
    assert (alone - whole)[..., inside[0]].abs().max() > 0.1


@pytest.mark.parametrize("knob", ["channels", "encoder_weights"])
def test_what_the_network_has_not_is_refused(pooled: str, knob: str) -> None:
    value: Any = [8] * 5 if knob == "channels" else "r34.pth"
    said = "network_channels" if knob == "channels" else knob
    with pytest.raises(ValueError, match=f"'centred_probe' is its extractor and one layer: drop {said}"):
        build_network("centred_probe", extractor_path=pooled, **{knob: value})


def test_the_weights_of_the_extractor_are_part_of_the_state(pooled: str, tmp_path: Path) -> None:
    network = build(pooled)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    other = build_network("centred_probe", extractor_path=pooled)
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(other.eval()(image), network(image))
