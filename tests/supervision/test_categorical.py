"""More than two classes: one pseudo-label of several u_c, and which methods learn them."""

import warnings

import numpy as np
import pytest
import torch

from cvm_monai.networks import build_network
from cvm_monai.supervision.categorical import join_classes
from cvm_monai.supervision.factory import METHODS, build_supervision, check_classes
from cvm_monai.supervision.pseudo_label import PseudoLabel


def label(*values) -> PseudoLabel:
    return PseudoLabel(np.array([values], dtype=np.float32), iterations=10.0)


def test_background_is_what_the_largest_u_leaves_and_all_are_divided_by_their_sum():
    """(0.8, 0.4): background 0.2, sum 1.4. (0, 0): background alone. (1, 1): two classes share the pixel."""
    joined = join_classes({1: label(0.8, 0, 1), 2: label(0.4, 0, 1)}, classes=3)
    expected = [[[0.2 / 1.4, 1, 0]], [[0.8 / 1.4, 0, 0.5]], [[0.4 / 1.4, 0, 0.5]]]
    np.testing.assert_allclose(joined.u, expected, atol=1e-7)
    assert (joined.u.dtype, joined.iterations, joined.reason) == (np.float32, 10.0, "")


def test_for_two_classes_the_target_is_u_itself():
    u = np.random.default_rng(0).random((7, 9), dtype=np.float32)
    joined = join_classes({1: PseudoLabel(u)}, classes=2)
    np.testing.assert_allclose(joined.u[1], u, rtol=0, atol=1e-7)
    np.testing.assert_allclose(joined.u[0], 1 - u, rtol=0, atol=1e-7)


@pytest.mark.parametrize("found", [{1: label(0.8, 0.1)}, {1: label(0.8, 0.1), 2: PseudoLabel(None, reason="empty")}])
def test_a_class_without_u_stays_unknown_and_takes_nothing_from_the_others(found):
    joined = join_classes(found, classes=3)
    np.testing.assert_allclose(joined.u, [[[0.2, 0.9]], [[0.8, 0.1]], [[-1, -1]]], atol=1e-7)


def test_an_image_of_which_no_class_has_u_has_no_pseudo_label_but_reasons():
    joined = join_classes({1: PseudoLabel(None, reason="b"), 2: PseudoLabel(None, reason="a; b")}, classes=3)
    assert (joined.u, joined.reason) == (None, "a; b")


def batch_of(classes: int) -> dict[str, torch.Tensor]:
    """Two images of one bright band for each class, with points, masks, and a soft pseudo-label for the first."""
    generator = torch.Generator().manual_seed(0)
    bands = (torch.arange(64) * classes // 64).expand(2, 1, 64, 64)
    label = torch.full((2, 1, 64, 64), 255)
    label[..., 10:13, 2::9] = bands[..., 10:13, 2::9]
    q = 0.8 * torch.nn.functional.one_hot(bands[:, 0], classes).movedim(-1, 1).float() + 0.2 / classes
    q[1] = -1
    return {
        "image": bands - 1 + 0.3 * torch.randn(2, 3, 64, 64, generator=generator),
        "label": label.to(torch.uint8),
        "mask": bands.to(torch.uint8),
        "pseudo_label": q,
    }


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.many_classes])
def test_every_method_that_says_so_learns_three_classes(name, tmp_path):
    torch.manual_seed(0)
    extractor = tmp_path / "extractor.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(torch.nn.Conv2d(3, 4, 1)).save(str(extractor))
    network = build_network("unet", out_channels=3, channels=(4, 4, 4, 4, 4))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    constants = {"uncertainty_aware_mean_teacher": {"passes": 1}, "mixmatch": {"weight": 1.0}, "crf": {"grid": 16}}
    constants["frozen_cvm"] = {"extractor_path": str(extractor)}
    method = build_supervision(name, constants=constants, classes=3)
    method.prepare(network, optimizer)
    method.begin_epoch(epoch=1, max_epochs=1)
    losses = []
    for step in range(1, 9):
        optimizer.zero_grad()
        loss = sum(method.loss(network, batch_of(3)).values())
        loss.backward()
        optimizer.step()
        method.after_step(network, step)
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert np.mean(losses[-2:]) < 0.95 * np.mean(losses[:2])


def test_a_method_of_two_classes_is_refused_with_those_that_know_more():
    sentence = "^supervision peng supports two classes only and the data have 3: use one of partial_ce, cvm, full, "
    with pytest.raises(ValueError, match=sentence):
        build_supervision("peng", classes=3)
    check_classes("peng", 2)
    with pytest.raises(ValueError, match="supervision must be one of"):
        check_classes("pengs", 2)


@pytest.mark.parametrize("target", [1, 2])
def test_direct_variational_looks_at_the_probability_of_the_class_that_is_asked_for(target):
    logits = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3))
    evidence = build_supervision("direct_variational").evidence(logits, logits, None, None, target=target)
    probability = torch.softmax(logits, 0)[target]
    expected = (probability - probability.min()) / (probability.max() - probability.min())
    torch.testing.assert_close(evidence, expected[None])
