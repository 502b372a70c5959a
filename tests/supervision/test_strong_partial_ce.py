"""The strong baseline: both terms by hand, and the augmentation that belongs to it alone."""

import pytest
import torch

from cvm_monai.supervision.factory import build_supervision

from .test_supervision import ToyNetwork, mean, pixel_losses, toy_batch


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_partial_dice_is_added_to_the_partial_cross_entropy(weight):
    network, batch = ToyNetwork(), toy_batch()
    method = build_supervision("strong_partial_ce", constants={"strong_partial_ce": {"weight": weight}})
    terms = method.loss(network, batch)
    assert set(terms) == {"partial_ce", "partial_dice"}
    assert terms["partial_ce"].item() == pytest.approx(mean(pixel_losses(network, batch, "label")), rel=1e-5)
    y, label = torch.softmax(network(batch["image"]), dim=1), batch["label"][:, 0]
    shares = []
    for c in (0, 1):
        inside, annotated = y[:, c][label == c], y[:, c][label != 255]
        shares.append(2 * inside.sum() / (annotated.square().sum() + len(inside)))
    expected = weight * (1 - sum(shares) / 2)
    assert terms["partial_dice"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_weight_below_zero_is_refused():
    with pytest.raises(ValueError, match="weight must be a finite number of at least 0, got -1"):
        build_supervision("strong_partial_ce", constants={"strong_partial_ce": {"weight": -1}})
