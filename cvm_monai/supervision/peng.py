"""Peng et al. (IEEE JBHI 24(8), 2020), reconstructed: pseudo-labels by cosine similarity, and a Fisher loss.

Only the abstract and one sentence of the CVM paper ("which utilizes cosine similarity maps") could be read. Decided
here: prototypes are the mean unit vectors of Feature Map 2 at an image's annotated pixels; a pixel's pseudo-label is
the class of the more similar prototype, recomputed in each step without gradient; the Fisher loss compares the scatter
within and between the classes of annotated vectors, image by image.
"""

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cvm_monai.losses import cosine_pseudo_labels, fisher_loss, partial_cross_entropy, unit_vectors
from cvm_monai.losses.checks import check_number
from cvm_monai.losses.fisher import UNLABELLED, has_both_classes
from cvm_monai.losses.maps import annotated_pixels
from cvm_monai.supervision.base import Batch, Supervision


class CosineFisher(Supervision):
    """L = L_pce + pseudo_weight * CE(y, cosine pseudo-labels) + fisher_weight * L_Fisher; reconstructed.

    Args:
        pseudo_weight: of the mean cross-entropy over the pixels with a pseudo-label; raising it spreads the points'
            classes over similar features, right or wrong; 0.1 to 1.
        fisher_weight: of `fisher_loss`; raising it draws the annotated features of a class together; 0.01 to 1.
        margin: see `cosine_pseudo_labels`; raising it leaves more pixels out; 0 to 0.5.
        eps: see `fisher_loss`; 0.01 to 0.5.

    Raises:
        CvmError: a constant out of its range, naming it.
    """

    name: ClassVar[str] = "peng"
    title: ClassVar[str] = "Peng et al."
    many_classes: ClassVar[bool] = False

    def __init__(
        self,
        *,
        pseudo_weight: float = 0.5,
        fisher_weight: float = 0.1,
        margin: float = 0.0,
        eps: float = 0.1,
    ) -> None:
        check_number("pseudo_weight", pseudo_weight)
        check_number("fisher_weight", fisher_weight)
        check_number("margin", margin, high=2)
        check_number("eps", eps, above=True)
        self.pseudo_weight, self.fisher_weight, self.margin, self.eps = pseudo_weight, fisher_weight, margin, eps

    def loss(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Compute three terms, `partial_ce`, `pseudo_ce` and `fisher`; the last two need images with both classes."""
        logits, features = features_of(network, batch["image"])
        vectors, label = unit_vectors(features), batch["label"]
        pseudo = cosine_pseudo_labels(vectors, label, margin=self.margin)
        return {
            "partial_ce": partial_cross_entropy(logits, label),
            "pseudo_ce": self.pseudo_weight * partial_cross_entropy(logits, pseudo),
            "fisher": self.fisher_weight * fisher_loss(vectors, label, eps=self.eps),
        }

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Count the annotated pixels; in images with both classes the others, and the images (exact for `margin` 0)."""
        label = batch["label"]
        both = has_both_classes(label)
        return {
            "partial_ce": annotated_pixels(label),
            "pseudo_ce": (label[both] == UNLABELLED).sum(),
            "fisher": both.sum(),
        }


def features_of(network: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Call `network.features(x)`, logits and Feature Map 2, so that distributed training reduces its gradients.

    DistributedDataParallel reduces gradients only through its own call, so that `features` replaces the wrapped
    network's `forward` during that call.
    """
    found: tuple[Tensor, Tensor]
    if isinstance(network, DistributedDataParallel):
        inner = network.module
        inner.forward = inner.features
        try:
            found = network(x)
        finally:
            del inner.forward
    else:
        found = network.features(x)
    return found
