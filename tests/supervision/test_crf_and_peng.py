"""The two methods that need no pseudo-label from outside, term by term on the toy network."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cvm_monai.supervision.factory import build_supervision
from cvm_monai.supervision.peng import features_of

from .test_supervision import ToyNetwork, mean, pixel_losses, toy_batch


@pytest.fixture
def network() -> ToyNetwork:
    return ToyNetwork()


def brute_force_crf(probability: np.ndarray, image: np.ndarray, *, sigma_xy: float, sigma_rgb: float) -> float:
    """sum_k s_k^T W s_k of one image by a double loop, image in 0 to 255."""
    total, pixels = 0.0, list(np.ndindex(*image.shape[1:]))
    for r, c in pixels:
        for row, column in pixels:
            place = ((r - row) ** 2 + (c - column) ** 2) / (2 * sigma_xy**2)
            colour = ((image[:, r, c] - image[:, row, column]) ** 2).sum() / (2 * sigma_rgb**2)
            total += math.exp(-place - colour) * float(probability[:, r, c] @ probability[:, row, column])
    return total


def test_crf_adds_the_regulariser_on_the_image_s_own_colours(network):
    """The image is normalised by the given constants; the oracle is given the colours before that."""
    batch, mean_rgb, std_rgb = toy_batch(), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    colours = batch["image"] / 1.3
    batch["image"] = (colours - torch.tensor(mean_rgb)[:, None, None]) / torch.tensor(std_rgb)[:, None, None]
    constants = {"weight": 2.0, "sigma_xy": 3.0, "sigma_rgb": 40.0, "image_mean": mean_rgb, "image_std": std_rgb}
    terms = build_supervision("crf", constants={"crf": constants}).loss(network, batch)
    s = network(batch["image"]).detach().double().softmax(1).numpy()
    sums = [
        brute_force_crf(one, 255 * colour.double().numpy(), sigma_xy=3.0, sigma_rgb=40.0)
        for one, colour in zip(s, colours, strict=True)
    ]
    assert set(terms) == {"partial_ce", "crf"}
    assert terms["partial_ce"].item() == pytest.approx(mean(pixel_losses(network, batch, "label")), rel=1e-5)
    assert terms["crf"].item() == pytest.approx(-2.0 * mean(sums) / (64 * 2 * math.pi * 9), rel=1e-5)


def test_the_reference_s_weight_converts_as_the_docstring_says():
    assert 2e-9 * 257**2 * 2 * math.pi * 50**2 == pytest.approx(2.1, abs=0.05)


def test_crf_takes_logits_coarser_than_the_image():
    coarse = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(3, 2, 1))
    batch = toy_batch(size=32) | {"label": torch.tensor([1, 0]).reshape(2, 1, 1, 1).expand(2, 1, 8, 8).byte()}
    terms = build_supervision("crf").loss(coarse, batch)
    assert -1 < terms["crf"].item() < 0


def test_peng_s_terms_are_the_points_the_nearer_prototype_and_the_scatter(network):
    batch = toy_batch()
    batch["label"][:, 0, 2, 1] = 1
    constants = {"pseudo_weight": 0.7, "fisher_weight": 0.3, "margin": 0.001, "eps": 0.02}
    terms = build_supervision("peng", constants={"peng": constants}).loss(network, batch)
    assert set(terms) == {"partial_ce", "pseudo_ce", "fisher"}
    assert terms["partial_ce"].item() == pytest.approx(mean(pixel_losses(network, batch, "label")), rel=1e-5)
    f = network.features(batch["image"])[1].detach().double()
    unit, pseudo, ratios = (f / f.norm(dim=1, keepdim=True)).numpy(), batch["label"].clone(), []
    for b in range(2):
        label = batch["label"][b, 0].numpy()
        members = [unit[b][:, label == value].T for value in (0, 1)]
        lead = np.einsum("dhw,d->hw", unit[b], members[1].mean(0) - members[0].mean(0))
        chosen = np.where(np.abs(lead) < 0.001, 255, lead > 0)
        pseudo[b, 0] = torch.from_numpy(np.where(label == 255, chosen, 255).astype(np.uint8))
        everything = np.concatenate(members)
        total = ((everything - everything.mean(0)) ** 2).sum() / 3  # tr S_w + tr S_b = tr of the total scatter
        within = sum(((m - m.mean(0)) ** 2).sum() for m in members) / 3
        ratios.append(within / (total - within + 0.02))
    expected = pixel_losses(network, batch | {"pseudo": pseudo}, "pseudo")
    assert len(expected) > 64
    assert terms["pseudo_ce"].item() == pytest.approx(0.7 * mean(expected), rel=1e-5)
    assert terms["fisher"].item() == pytest.approx(0.3 * mean(ratios), rel=1e-3)


@pytest.mark.parametrize("lost", [0, 1, None])
def test_peng_without_a_class_is_partial_ce_alone(network, lost):
    batch = toy_batch()
    batch["label"][batch["label"] == lost] = 255
    if lost is None:
        batch["label"][:] = 255
    terms = build_supervision("peng").loss(network, batch)
    assert (float(terms["pseudo_ce"].detach()), float(terms["fisher"].detach())) == (0, 0)
    sum(terms.values()).backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    build_supervision("partial_ce").loss(network, batch)["partial_ce"].backward()
    for found, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)


def test_features_of_a_distributed_network_go_through_its_own_call(network, tmp_path):
    """One process stands for many: the wrapper's call is what joins gradients, so that it must be used."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped, calls = nn.parallel.DistributedDataParallel(network), []
        wrapped.register_forward_hook(lambda *_: calls.append(1))
        image = toy_batch()["image"]
        for found, expected in zip(features_of(wrapped, image), network.features(image), strict=True):
            torch.testing.assert_close(found, expected)
        assert calls == [1]
        terms = build_supervision("peng").loss(wrapped, toy_batch())
        sum(terms.values()).backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        torch.testing.assert_close(wrapped(image), network.features(image)[0])
    finally:
        torch.distributed.destroy_process_group()
