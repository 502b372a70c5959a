"""MixMatch on pixels: a reconstruction, since no publication describes how it segments from points.

Berthelot et al., NeurIPS 2019, is the algorithm for images with one label each; Gao et al., MICCAI 2020, use it on
patches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional
from torch.optim import Optimizer

from cvm_monai.losses import brier, sharpen, soft_cross_entropy
from cvm_monai.losses.checks import check_number, check_whole
from cvm_monai.losses.maps import annotated_pixels, at_least_float32
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD
from cvm_monai.supervision.base import Batch, Supervision
from cvm_monai.supervision.moving_average import MovingAverage, bare
from cvm_monai.supervision.schedule import linear_ramp, progress_of
from cvm_monai.supervision.views import check_std, jitter_colours, turn

UNLABELLED = 255


@dataclass(frozen=True)
class Mixable:
    """Images (N, 3, H, W), their soft targets (N, C, h, w), and a bool mask (N, 1, h, w) of the pixels in the loss."""

    images: Tensor
    targets: Tensor
    counts: Tensor


class MixMatch(Supervision):
    """L = L_X + w(t) L_U on mixed images: soft cross-entropy at the points, Brier score elsewhere.

    The image as loaded is X; `views` random quarter rotations with colour jitter of it are U. The guess q is the mean
    of the predictions of U, each rotated back, then sharpened. All of X and U are mixed with a random permutation of
    themselves, l x + (1 - l) x', l = max(b, 1 - b), b from Beta(alpha, alpha) for each image, and so are their targets.

    Decided here: X's target is its label at annotated pixels and q elsewhere, so that each mixture has a target; L_X
    counts the annotated pixels of the first partner from X, L_U the others of the first partner from U; one forward
    pass computes all mixtures (instead of interleaving); images that are not square are rotated by half turns only;
    w(t) = weight t / rampup, t the completed fraction of the training, updated at each epoch; no weight decay beyond
    the optimiser's. The weights' moving average is validated and saved; its decay, min((1 + n) / (10 + n), decay)
    after n steps, grows as in TensorFlow, since 400 steps at 0.999 keep two thirds of the random start.

    Args:
        views: K; raising it steadies the guess at more time and memory.
        temperature: T of the sharpening; lower makes guesses harder; (0, 1].
        alpha: of the Beta distribution; raising it mixes more evenly; 0.1 to 1.
        weight: of L_U at its full value; raising it trusts the guesses more against the points; 1 to 150. The published
            75 is for many images with a label each: on the phantom it drives all pixels to one class; 1 to 10 learn.
        rampup: fraction of the training after which the weight is full; (0, 1].
        decay: of the moving average; 0.99 to 0.999, more is smoother.
        jitter: of brightness, contrast and saturation in the views, see `jitter_colours`; 0 to 0.8.
        image_mean, image_std: of the normalisation of the images.

    Raises:
        CvmError: a constant out of its range.
    """

    name: ClassVar[str] = "mixmatch"
    title: ClassVar[str] = "MixMatch"
    follows_progress: ClassVar[bool] = True
    changes_images: ClassVar[bool] = True

    def __init__(
        self,
        *,
        views: int = 2,
        temperature: float = 0.5,
        alpha: float = 0.75,
        weight: float = 75.0,
        rampup: float = 1.0,
        decay: float = 0.999,
        jitter: float = 0.4,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        check_whole("views", views, low=1)
        check_number("temperature", temperature, low=0.01, high=1)
        check_number("alpha", alpha, low=0.01)
        check_number("weight", weight)
        check_number("rampup", rampup, high=1, above=True)
        check_number("decay", decay, high=1)
        check_number("jitter", jitter, high=1)
        self.views, self.temperature, self.alpha, self.weight = views, temperature, alpha, weight
        self.rampup, self.decay, self.jitter = rampup, decay, jitter
        self.image_mean, self.image_std = tuple(image_mean), check_std(image_std)
        self._progress = 0.0
        self._prepared: MovingAverage | None = None

    @property
    def average(self) -> MovingAverage:
        """The moving average of the network passed to `prepare`."""
        return self._known(self._prepared)

    def prepare(self, network: nn.Module, optimizer: Optimizer) -> None:
        """Start the moving average from the network."""
        del optimizer
        self._prepared = MovingAverage(network, buffers="average")

    def begin_epoch(self, *, epoch: int, max_epochs: int) -> None:
        """Set t, on which w depends."""
        self._progress = progress_of(epoch=epoch, max_epochs=max_epochs)

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute two terms, `mixed_ce` and `mixed_brier`."""
        everything = self._everything(network, batch)
        n = everything.images.shape[0]
        drawn = Beta(self.alpha, self.alpha).sample((n, 1, 1, 1)).to(everything.images)
        mixed = mix(everything, order=torch.randperm(n), ratio=torch.maximum(drawn, 1 - drawn))
        logits = network(mixed.images)
        b = batch["image"].shape[0]
        annotated = soft_cross_entropy(logits[:b], mixed.targets[:b], valid=mixed.counts[:b])
        guessed = brier(logits[b:], mixed.targets[b:], valid=mixed.counts[b:])
        return {
            "mixed_ce": annotated,
            "mixed_brier": self.weight * linear_ramp(self._progress, self.rampup) * guessed,
        }

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the annotated pixels, and the others in each view."""
        annotated = annotated_pixels(batch["label"])
        return {"mixed_ce": annotated, "mixed_brier": self.views * (batch["label"].numel() - annotated)}

    def after_step(self, network: nn.Module, iteration: int) -> None:
        """Update the moving average."""
        self.average.update(network, decay=min((1 + iteration) / (10 + iteration), self.decay))

    def inference_weights(self) -> Mapping[str, Tensor]:
        """The moving average."""
        return self.average.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the moving average."""
        return {"average": self.average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state; call after `prepare`."""
        self.average.load_state_dict(state["average"])

    def _everything(self, network: nn.Module, batch: Batch) -> Mixable:
        """Collect X and the views U, in that order, before mixing."""
        image, label = batch["image"], batch["label"]
        turns = [self._quarters(image) for _ in range(self.views)]
        views = [
            turn(jitter_colours(image, mean=self.image_mean, std=self.image_std, amount=self.jitter), quarters)
            for quarters in turns
        ]
        guess = self._guess(network, views, turns)
        annotated = label != UNLABELLED
        hard = functional.one_hot(label[:, 0].long() * annotated[:, 0], guess.shape[1]).movedim(-1, 1)
        return Mixable(
            images=torch.cat([image, *views]),
            targets=torch.cat([torch.where(annotated, hard, guess), *(turn(guess, quarters) for quarters in turns)]),
            counts=torch.cat([annotated, *(turn(~annotated, quarters) for quarters in turns)]),
        )

    def _quarters(self, image: Tensor) -> int:
        """Draw a random number of quarter rotations that keeps the images' shape."""
        if image.shape[-2] == image.shape[-1]:
            return int(torch.randint(4, ()))
        return 2 * int(torch.randint(2, ()))

    @torch.no_grad()
    def _guess(self, network: nn.Module, views: Sequence[Tensor], turns: Sequence[int]) -> Tensor:
        """Compute the guess q, (B, C, h, w), in the orientation of the loaded images."""
        probability = torch.softmax(at_least_float32(bare(network)(torch.cat(list(views)))), dim=1)
        torch.clear_autocast_cache()  # some versions of torch cache the weights that were cast here without a graph
        parts = zip(probability.chunk(len(views)), turns, strict=True)
        mean = torch.stack([turn(part, -quarters) for part, quarters in parts]).mean(dim=0)
        return sharpen(mean, temperature=self.temperature)


def mix(everything: Mixable, *, order: Tensor, ratio: Tensor) -> Mixable:
    """Mix images and targets: l x + (1 - l) x[order], l = `ratio` (N, 1, 1, 1); the first partner's loss mask."""
    images, targets = (
        ratio * values + (1 - ratio) * values[order.to(values.device)]
        for values in (everything.images, everything.targets)
    )
    return Mixable(images=images, targets=targets, counts=everything.counts)
