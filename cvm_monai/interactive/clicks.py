"""From the features of a region and clicks in it to its soft segmentation u."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cvm_monai.knobs import DEFAULTS, MODEL, Centre, Combination, Contrast, SolverName
from cvm_monai.variational import ContrastEvidence, average, centred, linear_discriminant, solve

MAX_SOLVED = 3 * 2**15
"""Pixels of all maps together that are solved; more clicks make each map coarser, so that the answer comes in time."""

CORRECTION_RIDGE = 0.3
"""Of the discriminant that corrects a network: below the default, so that its answer gives way to some clicks."""


@dataclass(frozen=True)
class ClickModel:
    """How clicks become u. The defaults are those of a training; a cold start, on features of nobody's, has them too.

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
        """The part that makes the maps. Of a data set's mean nothing is known here: the image's stands for it."""
        centre: Centre = "image" if self.centre in ("dataset", "both") else self.centre
        return ContrastEvidence(self.eta, self.combination, self.contrast, centre, self.discriminant)


COLD = ClickModel()


@dataclass(frozen=True)
class ClickResult:
    """What clicks gave.

    Attributes:
        u: (h, w) float32 in [0, 1], the soft segmentation of Eq. 7, on the grid that was solved; None where no map has
            two phases.
        statuses: how the solve of each map ended.
        reason: why there is no u; empty otherwise.
    """

    u: np.ndarray | None
    statuses: tuple[str, ...]
    reason: str = ""


def recorded_model(knobs: Mapping[str, Any]) -> ClickModel:
    """The click model of a training: its own constants, and the defaults for what it did not record."""
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
    """Maps (P, h, w) in [0, 1] that the clicks speak for; one, but where the model's combination is `mean`.

    Args:
        features: (C, h, w).
        inside, outside: (P, 2) and (Q, 2) integer (row, column) of clicks in the target and outside.
        model: see `ClickModel`.
        parts: channels of each stage, see `centred`.
        probability: (h, w) of the target, by a trained network. The clicks then correct it: the discriminant, half of
            the evidence, learns what the network's answer lacks at the clicks, and leaves it where nothing resembles
            them.
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
    """Evidence -> the energy of Eq. 6 -> u (Eq. 7); see `click_evidence`.

    Args:
        spacing: pixels that the network saw from one feature to the next. Eq. 6 weighs an area by `lam` against the
            length of its border: on a grid of s pixels an area counts s^2 times less and a length s times less than in
            the image, so that lam s on the grid means what lam means in the image.

    Raises:
        CvmError: a tunable out of its range, a click outside the features, or features that are not finite.
    """
    maps = click_evidence(features, inside, outside, model=model, parts=parts, probability=probability)
    pooled = at_most(maps.numpy(), MAX_SOLVED)
    spacing *= maps.shape[-1] / pooled.shape[-1]
    solution = solve(pooled, method=model.solver, lam=model.lam * spacing, iterations=model.iterations)
    statuses = tuple(str(status.value).split(":")[0] for status in solution.status)
    u = average(solution) if len(pooled) > 1 else _only(solution)
    return ClickResult(u, statuses, "" if u is not None else str(solution.status[0].value))


def _only(solution: Any) -> np.ndarray | None:
    """u of a lone map as it is: a stretch to [0, 1] (the N of Eq. 7) would move what 0.5 means."""
    return np.asarray(solution.u[0], dtype=np.float32) if solution.status[0].usable else None


def at_most(maps: np.ndarray, most: int) -> np.ndarray:
    """(P, H, W) maps averaged over areas until they have at most so many pixels together."""
    shrink = min(1.0, (most / maps.size) ** 0.5)
    if shrink == 1:
        return maps
    size = [max(1, round(side * shrink)) for side in maps.shape[1:]]
    pooled = functional.interpolate(torch.from_numpy(maps)[None], size=size, mode="area")[0]
    return np.asarray(pooled.numpy())
