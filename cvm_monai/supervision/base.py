"""What a way of learning from points must offer to the training engine."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from cvm_monai.supervision.pseudo_label import PseudoLabel

State = TypeVar("State")
Batch = Mapping[str, Tensor]
"""image float (B, 3, H, W); label, mask uint8 (B, 1, h, w), 255: unknown; pseudo_label float, -1: none,
(B, 1, h, w) of the target where there are two classes, else (B, C, h, w)."""


class Supervision(ABC):
    """One row of the paper's Table 1: the loss of a batch and, for some, how pseudo-labels are made.

    The engine calls `prepare` once; it sums the terms of `loss`, steps the optimiser and calls `after_step`. If
    `renews` is true, each new low of the validation partial cross-entropy calls `evidence` for every training image,
    and `pseudo_labels` on the evidence of many images at once; if `renews_once` is true too, only the first low does.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """As tables and figures call it."""
    beyond_paper: ClassVar[str] = ""
    """Of a method that the paper does not have: in what it differs from those of its table."""
    renews: ClassVar[bool] = False
    renews_once: ClassVar[bool] = False
    needs_masks: ClassVar[bool] = False
    many_classes: ClassVar[bool] = True
    """Whether it can learn more than target and background."""
    follows_progress: ClassVar[bool] = False
    """Whether the loss depends on the share of the training that is done, so each epoch on how many there are."""
    changes_images: ClassVar[bool] = False
    """Whether it gives the network images that it has changed at random itself."""
    needs_mean: bool = False
    """Whether `evidence` needs the mean of `own_features` over the training set, in `mean_features`."""
    mean_features: Tensor | None = None
    """(C,), set before a renewal where it is needed."""

    def prepare(self, network: nn.Module, optimizer: Optimizer) -> None:  # noqa: B027  (few methods need it)
        """Called once, before anything is trained or resumed: teachers and further weights to learn are made here."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, by name, already weighted; their sum is minimised."""

    def counts(self, batch: Batch) -> Mapping[str, Tensor]:
        """How many pixels (or images) of a batch each term of `loss` is the mean over, from its labels alone.

        A step's batch may come in parts, one after the other or in several processes: by these numbers the parts' means
        add up to the mean of the whole. A term that is not named is taken for a mean over images. That is exact for a
        mean over images, and an approximation for a ratio over the whole batch, such as a Dice loss.
        """
        del batch
        return {}

    def begin_epoch(self, *, epoch: int, max_epochs: int) -> None:  # noqa: B027  (few methods need it)
        """Called before each epoch, counted from 1: weights that grow with the training are set here."""

    def after_step(self, network: nn.Module, iteration: int) -> None:  # noqa: B027  (few methods need it)
        """Called after each optimiser step (a teacher's moving average, say)."""

    def inference_weights(self) -> Mapping[str, Tensor] | None:
        """A state dict of the network to validate and save in place of the weights that train; None: there is none."""
        return None

    def own_features(self, image: Tensor, features: Tensor) -> Tensor:
        """What `evidence` is given as features, (1, C, h, w): those of the network, unless the method has others.

        Args:
            image: (1, 3, H, W), normalised.
            features: Feature Map 2 of the network, (1, C, h, w).
        """
        del image
        return features

    def evidence(
        self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray, *, target: int = 1
    ) -> Tensor:
        """(P, h, w) float32 maps of one image, on the network's device, that become u. Only where `renews`.

        `in_points` are those of the class `target`, a channel of the logits; `out_points` those of all other classes.
        """
        raise NotImplementedError(f"supervision {self.name} makes no pseudo-labels")

    def pseudo_labels(self, evidence: Sequence[Tensor], *, workers: int = 1) -> list[PseudoLabel]:
        """The pseudo-label of each image from its `evidence`; `workers` cores may share them where no GPU does."""
        raise NotImplementedError(f"supervision {self.name} makes no pseudo-labels")

    def state_dict(self) -> dict[str, Any]:
        """What must be saved to resume; empty for methods without state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027  (few methods have state)
        """Take back what `state_dict` gave."""

    def _known(self, prepared: State | None) -> State:
        """What `prepare` made, or an error where it was not called."""
        if prepared is None:
            raise RuntimeError(f"supervision {self.name} was not prepared: call prepare(network, optimizer) first")
        return prepared
