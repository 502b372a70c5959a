"""The proposed method on features that never change: what the co-training of features and u is worth. (Ours.)"""

from os import PathLike
from typing import Any, ClassVar

from torch import Tensor

from cvm_monai.networks.feature_store import NOT_STORED, FeatureStore
from cvm_monai.networks.frozen import FrozenExtractor
from cvm_monai.supervision.cvm import ContrastVariational


class FrozenContrastVariational(ContrastVariational):
    """`cvm` with u from the features of a frozen extractor in place of Feature Map 2; the loss is the same (Eq. 2).

    u does not depend on the network that trains, so that it is made once, at the first low.

    Args:
        extractor_path, extractor_weights, feature_store: see `FrozenExtractor`.
        settings: eta, lam, solver, iterations, tolerance, means, weight; see `ContrastVariational`.

    Raises:
        ValueError: a constant out of its range, naming it, or whatever `FrozenExtractor` finds.
    """

    name: ClassVar[str] = "frozen_cvm"
    renews_once: ClassVar[bool] = True

    def __init__(
        self,
        *,
        extractor_path: str | PathLike[str] | None = None,
        extractor_weights: str | PathLike[str] | None = None,
        feature_store: FeatureStore = NOT_STORED,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.extractor = FrozenExtractor(extractor_path, weights=extractor_weights, store=feature_store)

    def own_features(self, image: Tensor, features: Tensor) -> Tensor:
        """The extractor's features on the grid of the network's, (1, C, h, w)."""
        rows, columns = features.shape[-2:]
        return self.extractor.to(image.device).on_grid(image, (rows, columns))
