"""A step in several parts: each part counts as many pixels as it has, so that the parts are the whole."""

import copy

import pytest
import torch
from ignite.engine import Events
from torch import nn

from cvm_monai.engines import PointTrainer
from cvm_monai.engines.processes import step_weights
from cvm_monai.networks import build_network
from cvm_monai.supervision.factory import build_supervision

SIDE = 16
EXACT = {
    "partial_ce": {},
    "full": {},
    "cvm": {},
    "contrast_map": {"pseudo_label_loss": "cross_entropy"},
    "crf": {"grid": 8},
    "peng": {},
}
"""Methods whose parts add up exactly, with constants."""


def whole(*, cases=4, classes=2) -> dict:
    """A batch whose cases have 0, 3, 6, ... points and pseudo-labels of as many rows; masks of 40 pixels."""
    generator = torch.Generator().manual_seed(0)
    label = torch.full((cases, 1, SIDE, SIDE), 255, dtype=torch.uint8)
    pseudo = torch.full((cases, 1 if classes == 2 else classes, SIDE, SIDE), -1.0)
    mask = torch.full_like(label, 255)
    for case in range(cases):
        for point in range(3 * case):
            label[case, 0, point, case] = point % classes
        drawn = torch.rand(pseudo.shape[1], 3 * case, SIDE, generator=generator)
        pseudo[case, :, : 3 * case] = drawn if classes == 2 else drawn / drawn.sum(dim=0)
        mask[case, 0, :2] = case % classes
    image = torch.rand(cases, 3, SIDE, SIDE, generator=generator)
    ids = [str(case) for case in range(cases)]
    return {"image": image, "label": label, "pseudo_label": pseudo, "mask": mask, "case_id": ids}


def split(batch: dict, *sizes: int) -> list[dict]:
    ends = torch.tensor(sizes).cumsum(0).tolist()
    return [
        {key: value[end - size : end] for key, value in batch.items()} for size, end in zip(sizes, ends, strict=True)
    ]


class Still(nn.Module):
    """A small U-Net whose normalisation stays in evaluation mode, so that no case depends on the others."""

    def __init__(self, classes=2):
        super().__init__()
        self.net = build_network("unet", out_channels=classes, channels=[4, 4, 4, 4, 4], normalisation="batch")

    def train(self, mode=True):
        return super().train(False)

    def forward(self, x):
        return self.net(x)

    def features(self, x):
        return self.net.features(x)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(1)
    return Still().double().train()


def terms_of(method, network, batch):
    batch = {key: value.double() if key in ("image", "pseudo_label") else value for key, value in batch.items()}
    return method.loss(network, batch)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("sizes", [(2, 2), (3, 1), (1, 1, 1, 1)])
def test_the_terms_of_the_parts_add_up_to_those_of_the_whole(network, name, sizes):
    method, batch = build_supervision(name, constants={name: EXACT[name]}), whole()
    expected = terms_of(method, network, batch)
    parts = split(batch, *sizes)
    shares = step_weights(method, parts)
    found = [terms_of(method, network, part) for part in parts]
    assert expected
    for term, value in expected.items():
        total = sum(float(terms[term]) * share.of(term) for terms, share in zip(found, shares, strict=True))
        assert total == pytest.approx(float(value), rel=1e-9), term
        assert float(value) != 0


@pytest.mark.parametrize("loss", ["weighted_kl", "cross_entropy"])
def test_with_three_classes_too(loss):
    torch.manual_seed(1)
    network = Still(classes=3).double().train()
    method = build_supervision("cvm", constants={"cvm": {"pseudo_label_loss": loss}}, classes=3)
    batch = whole(classes=3)
    batch["pseudo_label"][1, 2, 0] = -1  # two classes known: a weighted KL, but no cross-entropy
    batch["pseudo_label"][1, :2, 0] = 0.5
    parts = split(batch, 2, 2)
    expected, shares = terms_of(method, network, batch), step_weights(method, parts)
    assert set(expected) == {"partial_ce", {"weighted_kl": "weighted_kl", "cross_entropy": "pseudo_ce"}[loss]}
    for term, value in expected.items():
        total = sum(
            float(terms_of(method, network, part)[term]) * share.of(term)
            for part, share in zip(parts, shares, strict=True)
        )
        assert total == pytest.approx(float(value), rel=1e-9)


def test_the_shares_are_those_of_the_counted_pixels_and_else_of_the_images():
    shares = step_weights(build_supervision("crf"), split(whole(), 3, 1))  # 0 + 3 + 6 and 9 points
    assert [share.of("partial_ce") for share in shares] == [0.5, 0.5]
    assert [share.of("crf") for share in shares] == [0.75, 0.25]


def test_a_step_without_any_point_has_shares_of_zero():
    shares = step_weights(
        build_supervision("partial_ce"), split(whole(cases=1) | {"image": torch.rand(1, 3, 8, 8)}, 1, 0)
    )
    assert [share.of("partial_ce") for share in shares] == [0, 0]


def test_mixmatch_counts_the_points_and_in_each_view_the_other_pixels():
    counts = build_supervision("mixmatch", constants={"mixmatch": {"views": 3}}).counts(whole())
    assert {name: int(count) for name, count in counts.items()} == {
        "mixed_ce": 18,
        "mixed_brier": 3 * (4 * SIDE * SIDE - 18),
    }


def trained(network, batches, *, name="cvm", **options):
    """Three steps of Adam; returns the weights and the outputs."""
    network, outputs = copy.deepcopy(network), []
    trainer = PointTrainer(
        supervision=build_supervision(name),
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        **options,
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output[0]))
    trainer.run()
    assert trainer.state.iteration == 3
    return network.state_dict(), outputs


@pytest.mark.parametrize("name", ["cvm", "full", "peng"])
def test_accumulated_micro_batches_train_as_one_large_batch(name):
    torch.manual_seed(1)
    network, batch = Still().train(), whole()
    one, expected = trained(network, [batch], name=name)
    many, found = trained(network, [split(batch, 1, 1, 2)], name=name)
    for key, value in one.items():
        torch.testing.assert_close(many[key], value, rtol=0, atol=1e-6)
    assert any(not torch.equal(value, network.state_dict()[key]) for key, value in one.items())
    for before, after in zip(expected, found, strict=True):
        assert after == pytest.approx(before, abs=1e-6)


def test_a_part_whose_loss_is_not_finite_ends_the_training_before_the_step_and_names_its_cases():
    torch.manual_seed(1)
    network, batch = Still().train(), whole()
    batch["image"][0] = torch.nan
    batch["mask"][0] = 1
    with pytest.raises(
        ValueError, match=r"the loss is not finite in epoch 1, step 1 \(cross_entropy=nan; cases 0, 1\)"
    ):
        trained(network, [split(batch, 2, 2)], name="full")
