"""The abstract base class of supervisions: what a method must implement for the training engine."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from cvm_monai.supervision.pseudo_label import PseudoLabel

State = TypeVar("State")
Batch = Mapping[str, Tensor]
"""image float (B, 3, H, W); label, mask uint8 (B, 1, h, w), 255: unlabelled; pseudo_label float, -1: none,
(B, 1, h, w) of the target if there are two classes, else (B, C, h, w)."""


class Supervision(ABC):
    """One row of the paper's Table 1: computes the loss of a batch and, for some methods, pseudo-labels.

    The engine calls `prepare` once; it sums the terms of `loss`, steps the optimiser and calls `after_step`. If
    `renews` is true, each new low of the validation partial cross-entropy calls `evidence` for every training image,
    and `pseudo_labels` on the evidence of many images at once; if `renews_once` is true too, only the first low does.
    The batch is augmented as the configuration says, the same for every method; a method that changes the images
    further declares `changes_images` and takes the constants of its views as arguments.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """Name in tables and figures."""
    beyond_paper: ClassVar[str] = ""
    """For a method that is not in the paper: how it differs from the paper's methods."""
    renews: ClassVar[bool] = False
    renews_once: bool = False
    needs_masks: ClassVar[bool] = False
    many_classes: ClassVar[bool] = True
    """Whether it supports more classes than target and background."""
    follows_progress: ClassVar[bool] = False
    """Whether the loss depends on the completed fraction of the training, and thus on the total number of epochs."""
    changes_images: ClassVar[bool] = False
    """Whether it passes the network images that it has itself changed at random."""
    needs_mean: bool = False
    """Whether `evidence` needs the mean of `own_features` over the training set, in `mean_features`."""
    reads_features: bool = True
    """Whether `own_features` depends on the network's features; if not, the logits may stand in for their grid."""
    mean_features: Tensor | None = None
    """(C,), set before a renewal if it is needed."""

    def prepare(self, network: nn.Module, optimizer: Optimizer) -> None:  # noqa: B027  (few methods need it)
        """Create teachers and additional trainable weights; called once, before training or resuming."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute the terms of the loss, by name, already weighted; their sum is minimised."""

    def counts(self, batch: Batch) -> Mapping[str, Tensor]:
        """Count, from the labels, the pixels (or images) of a batch over which each term of `loss` is a mean.

        A step's batch may be split into parts, in sequence or over several processes: weighted by these counts the
        parts' means add up to the mean of the whole. A term without a count is treated as a mean over images. That is
        exact for a mean over images, and an approximation for a ratio over the whole batch, such as a Dice loss.
        """
        del batch
        return {}

    def begin_epoch(self, *, epoch: int, max_epochs: int) -> None:  # noqa: B027  (few methods need it)
        """Set weights that grow during training; called before each epoch, counted from 1."""

    def after_step(self, network: nn.Module, iteration: int) -> None:  # noqa: B027  (few methods need it)
        """Update state after an optimiser step, such as a teacher's moving average."""

    def inference_weights(self) -> Mapping[str, Tensor] | None:
        """A state dict to validate and save in place of the trained weights; None: use the trained weights."""
        return None

    def own_features(self, image: Tensor, features: Tensor) -> Tensor:
        """Features (1, C, h, w) passed to `evidence`: those of the network, unless the method has its own.

        Args:
            image: (1, 3, H, W), normalised.
            features: Feature Map 2 of the network, (1, C, h, w).
        """
        del image
        return features

    def evidence(
        self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray, *, target: int = 1
    ) -> Tensor:
        """Compute maps (P, h, w) float32 of one image, on the network's device, from which u is made. Only if `renews`.

        `in_points` are those of the class `target`, a channel of the logits; `out_points` those of all other classes.
        """
        raise NotImplementedError(f"supervision {self.name} makes no pseudo-labels")

    def pseudo_labels(
        self, evidence: Sequence[Tensor], *, spacings: Sequence[int] | None = None, workers: int = 1
    ) -> list[PseudoLabel]:
        """Compute the pseudo-label of each image from its `evidence`; on a CPU by `workers` cores in parallel.

        `spacings`: features to a cell of each evidence's grid; None: 1, the features' own.
        """
        raise NotImplementedError(f"supervision {self.name} makes no pseudo-labels")

    def state_dict(self) -> dict[str, Any]:
        """Return the state needed to resume; empty for methods without state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027  (few methods have state)
        """Restore the state that `state_dict` returned."""

    def _known(self, prepared: State | None) -> State:
        """Return what `prepare` created; raises an error if it was not called."""
        if prepared is None:
            raise RuntimeError(f"supervision {self.name} was not prepared: call prepare(network, optimizer) first")
        return prepared
