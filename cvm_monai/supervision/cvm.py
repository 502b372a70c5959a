"""The proposed method: pseudo-labels of the contrast-based variational model supervise in addition to the points."""

from os import PathLike
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor

from cvm_monai.errors import CvmError
from cvm_monai.knobs import DEFAULTS, Centre, Combination, Contrast, Evidence
from cvm_monai.networks.feature_store import NOT_STORED, FeatureStore
from cvm_monai.networks.frozen_features import FrozenFeatures
from cvm_monai.supervision.pseudo_labelled import VariationalPseudoLabelled
from cvm_monai.variational import ContrastEvidence


class ContrastVariational(VariationalPseudoLabelled):
    """L = L_pce + weight * L_wkl (Eq. 2), with u of Eq. 7 from the contrast maps as the current pseudo-label.

    Args:
        eta, combination, contrast, centre, discriminant: see `ContrastEvidence`.
        evidence: see `Evidence`.
        extractor_path, extractor_weights, feature_store: see `FrozenFeatures`; ignored if the evidence is `own`.
        settings: lam, solver, iterations, tolerance, means, weight, pseudo_label_loss; see `VariationalPseudoLabelled`.

    Raises:
        CvmError: a constant out of its range, naming it, or an error of `FrozenFeatures`.
    """

    name: ClassVar[str] = "cvm"
    title: ClassVar[str] = "CVM"

    def __init__(
        self,
        *,
        eta: float = DEFAULTS["eta"],
        combination: Combination = DEFAULTS["combination"],
        contrast: Contrast = DEFAULTS["contrast"],
        centre: Centre = DEFAULTS["centre"],
        discriminant: float = DEFAULTS["discriminant"],
        evidence: Evidence = DEFAULTS["evidence"],
        extractor_path: str | PathLike[str] | None = None,
        extractor_weights: str | PathLike[str] | None = None,
        feature_store: FeatureStore = NOT_STORED,
        **settings: Any,
    ) -> None:
        if evidence not in get_args(Evidence):
            raise CvmError(f"evidence must be one of {', '.join(get_args(Evidence))}, got {evidence!r}")
        self.contrasts = ContrastEvidence(eta, combination, contrast, centre, discriminant)
        self.source = evidence
        self.needs_mean = centre in ("dataset", "both")
        if evidence == "frozen":  # u does not depend on the network that trains
            self.reads_features, self.renews_once = False, True
        super().__init__(**settings)
        self.frozen: FrozenFeatures | None = None
        if evidence != "own":
            self.frozen = FrozenFeatures(
                extractor_path, extractor_weights=extractor_weights, feature_store=feature_store
            )

    def own_features(self, image: Tensor, features: Tensor) -> Tensor:
        """Features (1, C, h, w) on the network's grid: the network's, the frozen ones, or both concatenated."""
        if self.frozen is None:
            return features
        rows, columns = features.shape[-2:]
        frozen = self.frozen.to(image.device).on_grid(image, (rows, columns))
        return frozen if self.source == "frozen" else torch.cat([features.float(), frozen], dim=1)

    def evidence(
        self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray, *, target: int = 1
    ) -> Tensor:
        """Compute the contrast map of each in-target point (Eqs. 4 to 6); for `both`, the mean of the two."""
        mean, points = self.mean_features, (in_points, out_points)
        if self.frozen is None:
            return self.contrasts.maps(features, *points, mean=mean)
        if self.source == "frozen":
            return self.contrasts.maps(features, *points, mean=mean, parts=self.frozen.parts)
        width = self.frozen.channels
        own = self.contrasts.maps(features[:-width], *points, mean=None if mean is None else mean[:-width])
        frozen = self.contrasts.maps(
            features[-width:], *points, mean=None if mean is None else mean[-width:], parts=self.frozen.parts
        )
        return (own + frozen) / 2
