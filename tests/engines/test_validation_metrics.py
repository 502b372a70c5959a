"""The metric that selects the model against torch's own cross-entropy, and the Dice that only the eye uses."""

import math

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine
from torch.nn import functional

from cvm_monai.engines import MaskDice, PartialCrossEntropyMetric
from cvm_monai.engines.metrics import mask_dice


def images(count=3) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Logits and labels of images of different sizes, most pixels unlabelled."""
    generator = torch.Generator().manual_seed(0)
    logits = [5 * torch.randn(2, 4 + i, 6, generator=generator) for i in range(count)]
    labels = []
    for i in range(count):
        label = torch.full((1, 4 + i, 6), 255, dtype=torch.uint8)
        label[0, : 1 + i, :2] = torch.tensor([0, 1], dtype=torch.uint8)
        labels.append(label)
    return logits, labels


def run(metric, name, batches):
    """An evaluator that hands out decollated batches as MONAI's does: (images' items, images' outputs)."""

    def step(engine, batch):
        engine.state.batch, output = batch
        return output

    engine = Engine(step)
    metric.attach(engine, name)
    engine.run(batches)
    return engine.state.metrics


def test_partial_ce_is_torchs_mean_over_all_annotated_pixels_of_all_images():
    logits, labels = images()
    metric = PartialCrossEntropyMetric(output_transform=from_engine(["pred", "label"]))
    batches = [([{}], [{"pred": z, "label": label}]) for z, label in zip(logits, labels, strict=True)]
    found = run(metric, "val_partial_ce", batches)["val_partial_ce"]
    pixels = torch.cat([z.flatten(1).T for z in logits])
    target = torch.cat([label.flatten() for label in labels]).long()
    assert (target != 255).sum() == 2 + 4 + 6
    assert found == pytest.approx(float(functional.cross_entropy(pixels, target, ignore_index=255)), rel=1e-6)


def test_partial_ce_does_not_depend_on_the_batching_and_starts_anew():
    logits, labels = images()
    one, other = PartialCrossEntropyMetric(), PartialCrossEntropyMetric()
    one.update((logits, labels))
    other.update((logits[:2], labels[:2]))
    other.update((logits[2:], labels[2:]))
    assert one.compute() == other.compute()
    other.reset()
    other.update((logits[:1], labels[:1]))
    assert other.compute() != one.compute()


def test_partial_ce_of_extreme_half_precision_logits_is_finite():
    metric = PartialCrossEntropyMetric()
    logits = torch.tensor([300.0, -300.0]).reshape(2, 1, 1).half()
    metric.update(([logits], [torch.ones(1, 1, 1, dtype=torch.uint8)]))
    assert metric.compute() == pytest.approx(600.0)


def test_images_without_points_count_for_nothing():
    logits, labels = images(1)
    metric = PartialCrossEntropyMetric()
    metric.update((logits, labels))
    alone = metric.compute()
    metric.update((logits, [torch.full_like(labels[0], 255)]))
    assert metric.compute() == alone


def test_without_any_point_no_model_can_be_selected():
    metric = PartialCrossEntropyMetric()
    metric.update(([torch.zeros(2, 2, 2)], [torch.full((1, 2, 2), 255, dtype=torch.uint8)]))
    with pytest.raises(
        ValueError, match="no validation image has an annotated point, so that no model can be selected"
    ):
        metric.compute()


MASK = torch.tensor([[1, 1, 0, 0], [1, 255, 0, 255]], dtype=torch.uint8)


def test_dice_counts_known_pixels_only():
    predicted = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 1]]).bool()
    assert mask_dice(predicted, MASK) == pytest.approx(2 * 2 / (3 + 3))
    assert mask_dice(MASK == 1, MASK) == 1.0
    assert mask_dice(MASK == 0, MASK) == 0.0


@pytest.mark.parametrize("value", [0, 255])
def test_dice_of_a_mask_without_target_is_unknown(value):
    assert mask_dice(torch.ones(2, 2).bool(), torch.full((2, 2), value)) is None


def test_mask_dice_is_the_mean_over_images_whose_mask_has_target():
    perfect = torch.stack([(MASK != 1).float(), (MASK == 1).float()])
    nothing = torch.stack([torch.ones(2, 4), torch.zeros(2, 4)])
    items = [{"mask": MASK[None]}, {"mask": MASK[None]}, {"mask": torch.full((1, 2, 4), 255)}]
    outputs = [{"pred": perfect}, {"pred": nothing}, {"pred": perfect}]
    assert run(MaskDice(), "val_dice", [(items[:2], outputs[:2]), (items[2:], outputs[2:])]) == {"val_dice": 0.5}


def test_mask_dice_is_left_out_where_no_image_has_a_mask():
    metrics = run(MaskDice(), "val_dice", [([{"mask": torch.full((1, 2, 2), 255)}], [{"pred": torch.zeros(2, 2, 2)}])])
    assert metrics == {}


def test_the_metric_is_natural_logarithms():
    metric = PartialCrossEntropyMetric()
    metric.update(([torch.zeros(2, 1, 1)], [torch.zeros(1, 1, 1, dtype=torch.uint8)]))
    assert metric.compute() == pytest.approx(math.log(2))
