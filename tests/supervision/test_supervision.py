"""Each way of learning against brute force on a toy network, and on a toy problem that it must learn."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from cvm_monai.networks import build_network
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.cvm import ContrastVariational
from cvm_monai.supervision.factory import build_supervision
from cvm_monai.supervision.segmenters import solve_and_average
from cvm_monai.variational import segment


class ToyNetwork(nn.Module):
    """Logits (B, 2, H, W) from three channels, through eight features."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, 2, 1)

    def features(self, x):
        maps = self.body(x)
        return self.head(maps), maps

    def forward(self, x):
        return self.features(x)[0]


def toy_batch(*, seed=0, size=8) -> dict[str, torch.Tensor]:
    """Two images whose left half is bright target, with two points each, masks, and a u that leans to the truth."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(2, 1, size, size, dtype=torch.uint8)
    truth[..., : size // 2] = 1
    label = torch.full_like(truth, 255)
    label[:, 0, 1, 1], label[:, 0, 1, -2] = 1, 0
    return {
        "image": truth.float() + 0.3 * torch.rand(2, 3, size, size, generator=generator),
        "label": label,
        "mask": truth,
        "pseudo_label": 0.1 + 0.8 * truth.float(),
    }


@pytest.fixture
def network() -> ToyNetwork:
    return ToyNetwork()


def pixel_losses(network: nn.Module, batch: dict, key: str) -> list[float]:
    """-log y of every pixel that `key` labels, one by one."""
    z = network(batch["image"]).detach().double()
    losses = []
    for b, row, column in np.ndindex(*batch[key][:, 0].shape):
        label = int(batch[key][b, 0, row, column])
        if label != 255:
            values = [math.exp(float(v)) for v in z[b, :, row, column]]
            losses.append(-math.log(values[label] / sum(values)))
    return losses


def divergences(network: nn.Module, batch: dict) -> list[float]:
    """exp(-2 h(u)) KL(u || y) of every pixel that has a pseudo-label."""
    z = network(batch["image"]).detach().double()
    terms = []
    for b, row, column in np.ndindex(*batch["pseudo_label"][:, 0].shape):
        u = float(batch["pseudo_label"][b, 0, row, column])
        if u >= 0:
            zero, one = (math.exp(float(v)) for v in z[b, :, row, column])
            pairs = [(p, q) for p, q in ((u, one / (zero + one)), (1 - u, zero / (zero + one))) if p > 0]
            entropy = -sum(p * math.log(p) for p, _ in pairs)
            terms.append(math.exp(-2 * entropy) * sum(p * math.log(p / q) for p, q in pairs))
    return terms


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_partial_ce_is_the_mean_over_the_annotated_pixels(network):
    batch = toy_batch()
    terms = build_supervision("partial_ce").loss(network, batch)
    expected = pixel_losses(network, batch, "label")
    assert len(expected) == 4
    assert set(terms) == {"partial_ce"}
    assert terms["partial_ce"].item() == pytest.approx(mean(expected), rel=1e-5)


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_cvm_adds_the_weighted_divergence_from_u(network, weight):
    batch = toy_batch()
    batch["pseudo_label"][0, 0, 0, :3] = torch.tensor([0.0, 1.0, 0.5])
    terms = ContrastVariational(weight=weight).loss(network, batch)
    assert set(terms) == {"partial_ce", "weighted_kl"}
    assert terms["partial_ce"].item() == pytest.approx(mean(pixel_losses(network, batch, "label")), rel=1e-5)
    assert terms["weighted_kl"].item() == pytest.approx(weight * mean(divergences(network, batch)), rel=1e-5)


def test_cvm_averages_over_the_pixels_that_have_a_pseudo_label(network):
    batch = toy_batch()
    batch["pseudo_label"][0] = -1
    batch["pseudo_label"][1, 0, 5:] = -1
    expected = divergences(network, batch)
    assert len(expected) == 5 * 8
    assert ContrastVariational().loss(network, batch)["weighted_kl"].item() == pytest.approx(mean(expected), rel=1e-5)


def test_cvm_without_any_pseudo_label_is_partial_ce_alone(network):
    batch = toy_batch() | {"pseudo_label": torch.full((2, 1, 8, 8), -1.0)}
    terms = ContrastVariational().loss(network, batch)
    assert float(terms["weighted_kl"].detach()) == 0
    sum(terms.values()).backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    build_supervision("partial_ce").loss(network, batch)["partial_ce"].backward()
    for found, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)


def test_full_leaves_out_what_the_mask_does_not_know(network):
    batch = toy_batch()
    batch["mask"][0] = 255  # a case without a mask
    batch["mask"][1, 0, :6] = 255
    expected = pixel_losses(network, batch, "mask")
    assert len(expected) == 2 * 8
    terms = build_supervision("full").loss(network, batch)
    assert set(terms) == {"cross_entropy"}
    assert terms["cross_entropy"].item() == pytest.approx(mean(expected), rel=1e-5)


def test_full_without_any_mask_is_zero_and_teaches_nothing(network):
    loss = build_supervision("full").loss(network, toy_batch() | {"mask": torch.full((2, 1, 8, 8), 255).byte()})
    loss["cross_entropy"].backward()
    assert loss["cross_entropy"].item() == 0
    assert all((parameter.grad == 0).all() for parameter in network.parameters())


@pytest.mark.parametrize(
    "name, renews, needs_masks",
    [
        ("partial_ce", 0, 0),
        ("cvm", 1, 0),
        ("full", 0, 1),
        ("contrast_map", 1, 0),
        ("direct_variational", 1, 0),
        ("crf", 0, 0),
        ("peng", 0, 0),
        ("mixmatch", 0, 0),
        ("uncertainty_aware_mean_teacher", 0, 0),
        ("dual_branch", 0, 0),
    ],
)
def test_the_factory_makes_each_method_by_its_name(name, renews, needs_masks):
    method = build_supervision(name)
    assert (method.name, method.renews, method.needs_masks) == (name, bool(renews), bool(needs_masks))


def test_the_factory_gives_each_method_its_own_constants_only():
    constants = {"cvm": {"weight": 3.0, "eta": 0.25}, "other": {"nonsense": 1}}
    method = build_supervision("cvm", constants=constants)
    assert (method.weight, method.contrasts.eta) == (3.0, 0.25)
    assert build_supervision("full", constants=constants).name == "full"


def test_the_factory_refuses_an_unknown_name():
    with pytest.raises(ValueError, match=r"supervision must be one of \('partial_ce', 'cvm', 'full'.*\), got 'CVM'"):
        build_supervision("CVM")


def test_methods_without_pseudo_labels_say_so():
    method: Supervision = build_supervision("partial_ce")
    with pytest.raises(NotImplementedError, match="supervision partial_ce makes no pseudo-labels"):
        method.pseudo_labels([])
    with pytest.raises(NotImplementedError, match="supervision partial_ce makes no pseudo-labels"):
        method.evidence(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), np.zeros((1, 2), int), np.zeros((1, 2), int))
    assert method.state_dict() == {}


def blob_features() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """(4, 20, 24) features of a disc on a ground, with noise, and points of both classes."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(24), indexing="ij")
    disc = ((rows - 9) ** 2 + (columns - 10) ** 2 < 36).float()
    directions = torch.tensor([[1.0, 0.2, 0, 0], [0.3, 1.0, 0, 0]])
    clean = directions[0, :, None, None] * disc + directions[1, :, None, None] * (1 - disc)
    return (
        clean + 0.1 * torch.rand(4, 20, 24, generator=generator),
        np.array([[9, 10], [7, 12]]),
        np.array([[1, 1], [18, 20]]),
    )


PAPER = {"combination": "mean", "contrast": "one_sided", "centre": "none", "discriminant": 0.0}
"""The evidence as published."""


@pytest.mark.parametrize("eta, lam, iterations, means", [(0.6, 2.0, 50, "alternating"), (0.3, 5.0, 7, "fixed")])
def test_evidence_and_pseudo_labels_are_the_variational_segmentation(eta, lam, iterations, means):
    features, inside, outside = blob_features()
    settings = PAPER | {"eta": eta, "lam": lam, "iterations": iterations, "tolerance": 1e-4, "means": means}
    method = ContrastVariational(**settings, solver="aos")
    evidence = method.evidence(torch.zeros(2, 20, 24), features, inside, outside)
    assert evidence.dtype == torch.float32
    (result,) = method.pseudo_labels([evidence])
    expected = segment(features, inside, outside, method="aos", **settings)
    np.testing.assert_allclose(evidence, expected.contrast, atol=1e-6)
    np.testing.assert_allclose(result.u, expected.u, atol=1e-5)
    assert result.iterations == np.mean(expected.solution.iterations.tolist())
    assert result.u[9, 10] > 0.9 > 0.1 > result.u[1, 1]
    assert result.reason == ""


def test_by_their_defaults_a_training_s_u_is_that_of_segment():
    features, inside, outside = blob_features()
    features = features.repeat_interleave(4, 1).repeat_interleave(4, 2)  # what is smaller does not stay at this lam
    inside, outside = 4 * inside, 4 * outside
    method = ContrastVariational()
    (found,) = method.pseudo_labels([method.evidence(torch.zeros(2, 80, 96), features, inside, outside)])
    for values in (features, features.numpy()):
        np.testing.assert_allclose(found.u, segment(values, inside, outside).u, atol=1e-5)
    paper = segment(features, inside, outside, **PAPER, method="aos", lam=2.0, iterations=5).u
    assert np.abs(found.u - paper).max() > 0.1


def test_evidence_of_half_precision_features_is_float32():
    features, inside, outside = blob_features()
    evidence = ContrastVariational().evidence(torch.zeros(2, 20, 24), features.bfloat16(), inside, outside)
    assert evidence.dtype == torch.float32
    assert evidence.isfinite().all()


def test_maps_that_separate_nothing_give_no_pseudo_label_but_a_reason():
    maps = np.stack([np.zeros((6, 7)), np.full((6, 7), 0.1)])
    maps[1, 0, 0] = 0.2
    (result,) = solve_and_average([maps])
    assert result.u is None
    assert result.iterations == 0
    assert result.reason == "one phase is empty; the map is constant, there is nothing to segment"


def test_one_usable_map_is_enough():
    features, inside, outside = blob_features()
    good = ContrastVariational().evidence(torch.zeros(2, 20, 24), features, inside[:1], outside)
    both, single = solve_and_average([torch.cat([torch.zeros_like(good), good]), good])
    np.testing.assert_array_equal(both.u, single.u)
    assert (both.iterations, single.iterations) == (single.iterations / 2, single.iterations)


def test_images_of_several_sizes_keep_their_own_pseudo_labels():
    rows, columns = np.mgrid[:40, :40]
    maps = [
        ((rows[:h, :w] - 9) ** 2 + (columns[:h, :w] - 8) ** 2 < r**2)[None].astype(np.float32)
        for h, w, r in ((20, 20, 4), (24, 30, 5), (20, 20, 6))
    ]
    maps[1] = np.repeat(maps[1], 3, axis=0)
    settings = {"method": "aos", "lam": 2.0, "iterations": 50}
    for found, one in zip(solve_and_average(maps, workers=2, **settings), maps, strict=True):
        np.testing.assert_array_equal(found.u > 0.5, one[0] == 1)
        np.testing.assert_allclose(found.u, solve_and_average([one], **settings)[0].u, atol=1e-6)
    assert solve_and_average([]) == []


def test_solver_workers_need_neither_torch_nor_monai():
    code = "import sys, cvm_monai.variational.solve; assert not {'torch', 'monai', 'ignite'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "name",
    [
        "partial_ce",
        "cvm",
        "full",
        "contrast_map",
        "direct_variational",
        "crf",
        "peng",
        "uncertainty_aware_mean_teacher",
    ],
)
def test_the_loss_falls_and_the_halves_are_told_apart(network, name):
    method, batch = build_supervision(name), toy_batch()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    method.prepare(network, optimiser)
    losses = []
    for step in range(1, 31):
        optimiser.zero_grad()
        loss = sum(method.loss(network, batch).values())
        loss.backward()
        optimiser.step()
        method.after_step(network, step)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    logits = network(toy_batch(seed=1)["image"])
    agreement = ((logits[:, 1] > logits[:, 0]) == (batch["mask"][:, 0] == 1)).float().mean()
    assert agreement > 0.85


STATEFUL = ["mixmatch", "uncertainty_aware_mean_teacher", "dual_branch"]


def trained(name: str, *, steps: int, resume: int | None = None) -> tuple[list[float], nn.Module]:
    """Losses and network after some steps; `resume` replaces every object by its saved state before that step."""
    size = 64
    batch = {key: value.repeat(1, 1, size // 8, size // 8) for key, value in toy_batch().items()}

    def fresh():
        network = build_network("unet", channels=(4, 4, 4, 4, 4))
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
        method = build_supervision(name)
        method.prepare(network, optimiser)
        method.begin_epoch(epoch=2, max_epochs=4)
        return network, optimiser, method

    torch.manual_seed(0)
    network, optimiser, method = objects = fresh()
    losses = []
    for step in range(1, steps + 1):
        if step == resume:
            saved = copy.deepcopy([part.state_dict() for part in objects])
            network, optimiser, method = objects = fresh()
            for part, state in zip(objects, saved, strict=True):
                part.load_state_dict(state)
        torch.manual_seed(step)
        optimiser.zero_grad()
        loss = sum(method.loss(network, batch).values())
        loss.backward()
        optimiser.step()
        method.after_step(network, step)
        losses.append(loss.item())
    return losses, network


@pytest.mark.parametrize("name", STATEFUL)
def test_a_resumed_training_goes_on_exactly(name):
    losses, network = trained(name, steps=4)
    resumed, other = trained(name, steps=4, resume=3)
    assert resumed == losses
    for key, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


@pytest.mark.parametrize("name", STATEFUL)
def test_state_that_was_not_prepared_says_so(name, network):
    with pytest.raises(RuntimeError, match=rf"supervision {name} was not prepared: call prepare\(network, optimizer\)"):
        build_supervision(name).state_dict()


@pytest.mark.parametrize("name", ["partial_ce", "cvm", "full"])
def test_methods_without_state_need_no_preparation(name, network):
    optimiser = torch.optim.Adam(network.parameters())
    method = build_supervision(name)
    method.prepare(network, optimiser)
    assert len(optimiser.param_groups) == 1
    assert method.inference_weights() is None


@pytest.mark.parametrize("height, width", [pytest.param(64, 64, marks=pytest.mark.ci), (70, 100)])
@pytest.mark.parametrize("network_name", ["resnet34_unet", "unet", "two_component"])
@pytest.mark.parametrize("name", STATEFUL)
def test_every_network_learns_by_every_method_also_from_images_that_are_not_square(name, network_name, height, width):
    torch.manual_seed(0)
    network = build_network(network_name, channels=(8, 8, 8, 8, 8))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    method = build_supervision(name)
    method.prepare(network, optimiser)
    method.begin_epoch(epoch=2, max_epochs=2)
    label = torch.full((2, 1, *network.output_shape(height, width)), 255, dtype=torch.uint8)
    label[:, 0, 0, 1], label[:, 0, -1, -1] = 1, 0
    terms = method.loss(network, {"image": torch.randn(2, 3, height, width), "label": label})
    loss = sum(terms.values())
    loss.backward()
    optimiser.step()
    method.after_step(network, 1)
    assert len(terms) == 2
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in network.parameters())
