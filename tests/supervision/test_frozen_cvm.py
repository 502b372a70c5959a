"""The proposed method on frozen features: u follows from the extractor's features alone, the loss is that of `cvm`."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cvm_monai.supervision.cvm import ContrastVariational
from cvm_monai.supervision.factory import build_supervision
from cvm_monai.variational import segment

from .test_supervision import ToyNetwork, toy_batch

SETTINGS = {"eta": 0.3, "lam": 3.0, "iterations": 20}
POINTS = np.array([[10, 8], [20, 12]]), np.array([[12, 40], [30, 44]])


class Halved(nn.Module):
    """Stride 2: the means over squares of 2 pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(x, 2)


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "halved.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Halved()).save(str(path))
    return build_supervision("frozen_cvm", constants={"frozen_cvm": {"extractor_path": str(path), **SETTINGS}})


@pytest.fixture
def image():
    """64 x 64, whose left half has another colour, with noise."""
    clean = torch.tensor([[0.2], [0.3], [1.0]]).expand(3, 64).clone()
    clean[:, :28] = torch.tensor([[1.0], [0.2], [0.1]])
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return clean[:, None, :] + 0.1 * noise


@pytest.mark.parametrize("stride", [1, 16])
def test_u_is_the_variational_segmentation_of_the_extractor_s_features_on_the_network_s_grid(method, image, stride):
    side = 64 // stride
    points = tuple(part // stride for part in POINTS)
    features = method.own_features(image, torch.zeros(1, 5, side, side))
    maps = functional.interpolate(functional.avg_pool2d(image, 2), (side, side), mode="bilinear", align_corners=False)
    torch.testing.assert_close(features, maps, atol=1e-5, rtol=0)
    (result,) = method.pseudo_labels([method.evidence(torch.zeros(2, side, side), features[0], *points)])
    expected = segment(maps[0], *points, **SETTINGS)
    np.testing.assert_allclose(result.u, expected.u, atol=1e-4)
    assert result.u[:, 0].min() > 0.5 > result.u[:, -1].max()


def test_the_loss_is_that_of_cvm(method):
    network, batch = ToyNetwork(), toy_batch()
    ours, theirs = method.loss(network, batch), ContrastVariational(**SETTINGS).loss(network, batch)
    assert {name: term.item() for name, term in ours.items()} == {name: term.item() for name, term in theirs.items()}


def test_it_renews_once_where_cvm_renews_at_each_low(method):
    assert method.renews
    assert method.renews_once
    assert not ContrastVariational().renews_once


def test_without_an_extractor_it_says_what_is_missing():
    with pytest.raises(
        ValueError, match="a frozen extractor is needed: give its file, timm:NAME or imagenet, by --extractor_path"
    ):
        build_supervision("frozen_cvm")
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\], got 2"):
        build_supervision("frozen_cvm", constants={"frozen_cvm": {"eta": 2}})


def test_cvm_on_frozen_features_alone_is_the_same(method):
    path = method.frozen.extractor.path
    other = ContrastVariational(evidence="frozen", extractor_path=path, **SETTINGS)
    assert (other.renews_once, other.reads_features) == (method.renews_once, method.reads_features) == (True, False)
    both = ContrastVariational(evidence="both", extractor_path=path, **SETTINGS)
    assert (both.renews_once, both.reads_features) == (False, True)
