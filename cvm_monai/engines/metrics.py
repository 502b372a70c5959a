"""Validation metrics computed while an evaluator runs: partial cross-entropy on points, Dice where masks exist."""

from typing import Any

import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from cvm_monai.annotations import UNLABELLED
from cvm_monai.engines.processes import summed
from cvm_monai.errors import CvmError


class PartialCrossEntropyMetric(Metric):
    """Mean cross-entropy over all annotated pixels of all validation images (Eq. 3); it selects the model."""

    required_output_keys = None

    @reinit__is_reduced
    def reset(self) -> None:
        """Reset the sums before a new pass."""
        self._total = torch.tensor(0.0, dtype=torch.float64)
        self._count = torch.tensor(0, dtype=torch.int64)

    def iteration_completed(self, engine: Engine) -> None:
        """Accumulate this iteration's output; that of `SharedEvaluator` may hold no image."""
        if engine.state.output:
            super().iteration_completed(engine)

    @reinit__is_reduced
    def update(self, output: Any) -> None:
        """Accumulate images: `output` is (list of logits (C, h, w), list of labels (1, h, w))."""
        for logits, label in zip(*output, strict=True):
            target = label[0].long()
            known = target != UNLABELLED
            picked = torch.log_softmax(logits.double(), dim=0).permute(1, 2, 0)[known]
            self._total -= picked.gather(1, target[known][:, None]).sum().cpu()
            self._count += known.sum().cpu()

    @sync_all_reduce("_total", "_count")
    def compute(self) -> float:
        """Return the mean; raises CvmError if no validation image has an annotated pixel."""
        if int(self._count) == 0:
            raise CvmError(
                "no validation image has an annotated point, so that no model can be selected: annotate more images, "
                "or choose another --fold or --seed"
            )
        return float(self._total / self._count)


class MaskDice(Metric):
    """Mean Dice of the prediction over validation images whose mask has target; for information only.

    With more than two classes, the mean over the foreground classes that an image's mask holds.

    It never selects a model. It reads mask and prediction from the engine, because MONAI keeps masks in the batch.
    """

    required_output_keys = None

    @reinit__is_reduced
    def reset(self) -> None:
        """Reset the sums before a new pass."""
        self._total = torch.tensor(0.0, dtype=torch.float64)
        self._count = torch.tensor(0, dtype=torch.int64)

    def iteration_completed(self, engine: Any) -> None:
        """Accumulate this iteration's decollated batch and output."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.update((output["pred"], item["mask"]))

    @reinit__is_reduced
    def update(self, output: Any) -> None:
        """Accumulate one image: (logits (C, h, w), mask (1, h, w))."""
        logits, mask = output
        dice = mask_dice(logits.argmax(dim=0), mask[0], classes=len(logits))
        if dice is not None:
            self._total += dice
            self._count += 1

    @sync_all_reduce("_total", "_count")
    def compute(self) -> float:
        """Return the mean; not computable without masks."""
        if int(self._count) == 0:
            raise NotComputableError("no validation image has a mask with target")
        return float(self._total / self._count)

    def completed(self, engine: Engine, name: str) -> None:
        """Omit the metric if no process has a mask."""
        if int(summed(self._count)):
            super().completed(engine, name)


def mask_dice(predicted: torch.Tensor, mask: torch.Tensor, *, classes: int = 2) -> float | None:
    """Dice over the labelled pixels of the mask; None if it has no target or is not a mask.

    Args:
        predicted: (h, w), class numbers, or bool for two classes.
        mask: (h, w), class numbers; 255: unlabelled.
        classes: with more than two, the result is the mean over the foreground classes that the mask holds.
    """
    known = mask != UNLABELLED
    scores = []
    for label in range(1, classes):
        truth = mask == label
        if truth.any():
            chosen = (predicted.to(truth.device) == label) & known
            scores.append(float(2 * (chosen & truth).sum() / (chosen.sum() + truth.sum())))
    return sum(scores) / len(scores) if scores else None
