"""Mean teacher, the student's moving average, used where its predictions are certain under noise.

Liu et al., Pattern Recognition 122:108341, 2022 (USTM), after Yu et al., MICCAI 2019 (UA-MT).
"""

from collections.abc import Sequence
from math import log
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cvm_monai.losses import masked_consistency, partial_cross_entropy, predictive_entropy
from cvm_monai.losses.checks import check_number, check_whole
from cvm_monai.losses.maps import annotated_pixels, at_least_float32
from cvm_monai.networks.encoder import IMAGENET_STD
from cvm_monai.supervision.base import Batch, Supervision
from cvm_monai.supervision.moving_average import BuffersRule, MovingAverage, check_buffers_rule
from cvm_monai.supervision.schedule import gaussian_ramp, progress_of
from cvm_monai.supervision.views import check_std, per_channel, turn


class UncertaintyAwareMeanTeacher(Supervision):
    """L = L_pce + w(t) L_con: the student's rotated prediction matches the teacher's of the rotated, noisy image.

    L_con counts the pixels where the entropy of the mean of `passes` noisy predictions is below
    H(t) = (threshold + (1 - threshold) r(t, 1)) log C; w(t) = weight r(t, rampup), with
    r(t, l) = exp(-5 (1 - min(t / l, 1))^2) and t the completed fraction of the training, updated at each epoch. The
    teacher predicts in training mode, and is not used when the student is validated and saved.

    Differences from the published script: w(t) is full after 0.4 of the training (there: a fixed number of steps); the
    teacher's running statistics are the student's (there: its own, which its predictions never use).

    Args:
        weight: of L_con at its full value; raising it trusts the teacher more against the points; 0.1 to 10.
        rampup: fraction of the training after which the weight is full; (0, 1].
        decay: of the moving average, less in the first steps: min(1 - 1 / step, decay); 0.9 to 0.999, more is smoother.
        passes: noisy predictions for the entropy; more cost time and steady the mask.
        noise: standard deviation of the noise, clipped at twice it, in images of [0, 1]; 0 to 0.2.
        threshold: H at the start as a fraction of log C; raising it admits less certain pixels; 0 to 1.
        buffers: `copy` or `average`, see `MovingAverage`.
        image_std: divisor of the images, by which the noise is divided too.

    Raises:
        CvmError: a constant out of its range.
    """

    name: ClassVar[str] = "uncertainty_aware_mean_teacher"
    title: ClassVar[str] = "UA-MT"
    follows_progress: ClassVar[bool] = True
    changes_images: ClassVar[bool] = True

    def __init__(
        self,
        *,
        weight: float = 1.0,
        rampup: float = 0.4,
        decay: float = 0.99,
        passes: int = 8,
        noise: float = 0.1,
        threshold: float = 0.75,
        buffers: BuffersRule = "copy",
        image_std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        check_number("weight", weight)
        check_number("rampup", rampup, high=1, above=True)
        check_number("decay", decay, high=1)
        check_number("noise", noise)
        check_number("threshold", threshold, high=1)
        check_whole("passes", passes, low=1)
        check_buffers_rule(buffers)
        self.weight, self.rampup, self.decay, self.passes = weight, rampup, decay, passes
        self.noise, self.threshold, self.buffers = noise, threshold, buffers
        self.image_std = check_std(image_std)
        self._progress = 0.0
        self._prepared: MovingAverage | None = None

    @property
    def teacher(self) -> MovingAverage:
        """The moving average of the network passed to `prepare`."""
        return self._known(self._prepared)

    def prepare(self, network: nn.Module, optimizer: Optimizer) -> None:
        """Create the teacher, a copy of the network."""
        del optimizer
        self._prepared = MovingAverage(network, buffers=self.buffers)

    def begin_epoch(self, *, epoch: int, max_epochs: int) -> None:
        """Set t, on which w and H depend."""
        self._progress = progress_of(epoch=epoch, max_epochs=max_epochs)

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute two terms, `partial_ce` and `consistency`."""
        logits = network(batch["image"])
        quarters = int(torch.randint(4, ()))
        target, certain = self._teach(turn(batch["image"], quarters))
        student = turn(_softmax(logits), quarters)
        consistency = masked_consistency(student, target, certain=certain)
        return {
            "partial_ce": partial_cross_entropy(logits, batch["label"]),
            "consistency": self.weight * gaussian_ramp(self._progress, self.rampup) * consistency,
        }

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the annotated pixels; the certain ones are not known before: `consistency` is averaged over parts."""
        return {"partial_ce": annotated_pixels(batch["label"])}

    def after_step(self, network: nn.Module, iteration: int) -> None:
        """Update the teacher; after the first step it equals the student."""
        self.teacher.update(network, decay=min(1 - 1 / iteration, self.decay))

    def state_dict(self) -> dict[str, Any]:
        """Return the teacher's state."""
        return {"teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; call after `prepare`."""
        self.teacher.load_state_dict(state["teacher"])

    @torch.no_grad()
    def _teach(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the teacher's probabilities (B, C, H, W), and a mask (B, H, W) of its certain pixels."""
        teacher = self.teacher.network.train()
        target = _softmax(teacher(self._noisy(image)))
        mean = torch.zeros_like(target)
        for _ in range(self.passes):
            mean += _softmax(teacher(self._noisy(image))) / self.passes
        share = self.threshold + (1 - self.threshold) * gaussian_ramp(self._progress, 1)
        return target, predictive_entropy(mean) < share * log(target.shape[1])

    def _noisy(self, image: Tensor) -> Tensor:
        noise = (self.noise * torch.randn_like(image)).clamp(-2 * self.noise, 2 * self.noise)
        return image + noise / per_channel(self.image_std, image)


def _softmax(logits: Tensor) -> Tensor:
    return torch.softmax(at_least_float32(logits), dim=1)
