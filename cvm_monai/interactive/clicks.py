"""Compute the soft segmentation u of a region from its features and clicks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cvm_monai.knobs import DEFAULTS, MODEL, Centre, Combination, Contrast, SolverName
from cvm_monai.variational import ContrastEvidence, average, centred, linear_discriminant, solve

MAX_SOLVED = 3 * 2**15
"""Largest total number of pixels of the maps that are solved; with more clicks each map is coarser, to save time."""

CORRECTION_RIDGE = 0.3
"""Ridge of the discriminant that corrects a network: below the default, so that few clicks change the prediction."""


@dataclass(frozen=True)
class ClickModel:
    """The settings by which clicks give u. The defaults are those of a training, and of a cold start.

    Attributes:
        eta, combination, contrast, centre, discriminant: see `ContrastEvidence`.
        lam, solver, iterations: see `solve`.
    """

    eta: float = DEFAULTS["eta"]
    combination: Combination = DEFAULTS["combination"]
    contrast: Contrast = DEFAULTS["contrast"]
    centre: Centre = DEFAULTS["centre"]
    discriminant: float = DEFAULTS["discriminant"]
    lam: float = DEFAULTS["lam"]
    solver: SolverName = DEFAULTS["solver"]
    iterations: int = DEFAULTS["iterations"]

    def evidence(self) -> ContrastEvidence:
        """Return the evidence settings; a data set's mean is not available here and is replaced by the image's."""
        centre: Centre = "image" if self.centre in ("dataset", "both") else self.centre
        return ContrastEvidence(self.eta, self.combination, self.contrast, centre, self.discriminant)


COLD = ClickModel()


@dataclass(frozen=True)
class ClickResult:
    """The result of segmenting from clicks.

    Attributes:
        u: (h, w) float32 in [0, 1], the soft segmentation of Eq. 7, on the solver's grid; None where no map has two
            phases.
        statuses: status of the solve of each map.
        reason: why u is None; empty otherwise.
    """

    u: np.ndarray | None
    statuses: tuple[str, ...]
    reason: str = ""


def recorded_model(knobs: Mapping[str, Any]) -> ClickModel:
    """Make the click model of a training from its recorded knobs, with defaults for those not recorded."""
    return ClickModel(**{name: knobs[name] for name in MODEL if knobs.get(name) is not None})


def click_evidence(
    features: torch.Tensor,
    inside: np.ndarray,
    outside: np.ndarray,
    *,
    model: ClickModel = COLD,
    parts: Sequence[int] | None = None,
    probability: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the evidence maps (P, h, w) in [0, 1] of clicks; P = 1 unless the model's combination is `mean`.

    Args:
        features: (C, h, w).
        inside, outside: (P, 2) and (Q, 2) integer (row, column) of clicks in the target and outside.
        model: see `ClickModel`.
        parts: number of channels of each stage, see `centred`.
        probability: (h, w), the target's probability by a trained network. The clicks then correct it: the
            discriminant, half of the evidence, is fitted to the network's residual at the clicks, and changes little at
            pixels that resemble none of them.
    """
    evidence = model.evidence()
    if probability is None:
        return evidence.maps(features, inside, outside, parts=parts)
    contrast = replace(evidence, discriminant=0.0).maps(features, inside, outside, parts=parts)
    found = centred(features, evidence.centre, parts=parts)
    corrected = linear_discriminant(found, inside, outside, ridge=CORRECTION_RIDGE, prior=probability)
    return (contrast + corrected) / 2


def segment_clicks(
    features: torch.Tensor,
    inside: np.ndarray,
    outside: np.ndarray,
    *,
    model: ClickModel = COLD,
    parts: Sequence[int] | None = None,
    probability: torch.Tensor | None = None,
    spacing: float = 1.0,
) -> ClickResult:
    """Segment a region from clicks: compute evidence, minimise the energy of Eq. 6, return u (Eq. 7).

    Args:
        spacing: image pixels per feature. Eq. 6 weighs an area by `lam` against the length of its border: on a grid
            with spacing s an area has s^2 and a length s times fewer pixels than in the image, so that lam s on the
            grid is equivalent to lam in the image.

    Raises:
        CvmError: a tunable out of its range, a click outside the features, or features that are not finite.

    Example:
        >>> import cvm_monai as cvm, numpy as np, torch
        >>> features = torch.zeros(2, 16, 16)
        >>> features[0, :, :8], features[1, :, 8:] = 1, 1
        >>> found = cvm.segment_clicks(features, np.array([[4, 3]]), np.array([[12, 12]]))
        >>> bool(found.u[:, :7].min() > 0.5 > found.u[:, 9:].max())
        True
    """
    maps = click_evidence(features, inside, outside, model=model, parts=parts, probability=probability)
    pooled = at_most(maps.numpy(), MAX_SOLVED)
    spacing *= maps.shape[-1] / pooled.shape[-1]
    solution = solve(pooled, method=model.solver, lam=model.lam * spacing, iterations=model.iterations)
    statuses = tuple(str(status.value).split(":")[0] for status in solution.status)
    u = average(solution) if len(pooled) > 1 else _only(solution)
    return ClickResult(u, statuses, "" if u is not None else str(solution.status[0].value))


def _only(solution: Any) -> np.ndarray | None:
    """Return u of a single map without normalising it: N of Eq. 7 would shift the boundary at 0.5."""
    return np.asarray(solution.u[0], dtype=np.float32) if solution.status[0].usable else None


def at_most(maps: np.ndarray, most: int) -> np.ndarray:
    """Downsample (P, H, W) maps by area averaging until they have at most `most` pixels in total."""
    shrink = min(1.0, (most / maps.size) ** 0.5)
    if shrink == 1:
        return maps
    size = [max(1, round(side * shrink)) for side in maps.shape[1:]]
    pooled = functional.interpolate(torch.from_numpy(maps)[None], size=size, mode="area")[0]
    return np.asarray(pooled.numpy())
