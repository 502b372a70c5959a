"""Solve the evidence maps of many images for their pseudo-labels."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from cvm_monai.knobs import DEFAULTS
from cvm_monai.supervision.pseudo_label import PseudoLabel
from cvm_monai.variational import Solution, average, solve
from cvm_monai.variational.chan_vese import Array


def solve_and_average(
    evidence: Sequence[Array],
    *,
    lam: float = DEFAULTS["lam"],
    spacings: Sequence[int] | None = None,
    workers: int = 1,
    **settings: Any,
) -> list[PseudoLabel]:
    """Solve each image's (P, h, w) maps by Eq. 6 with `solve`'s settings and average them by Eq. 7.

    The maps of all images of one size are solved together: in one batch on a GPU, else divided among the workers. On a
    grid of spacing s the weight of the data term is `lam * s`, see `cvm_monai.variational.grid`.
    """
    results: list[PseudoLabel] = [PseudoLabel(None)] * len(evidence)
    kinds = [(tuple(maps.shape[-2:]), step) for maps, step in zip(evidence, spacings or repeat(1), strict=False)]
    for kind in dict.fromkeys(kinds):
        indices = [index for index, other in enumerate(kinds) if other == kind]
        chosen = [evidence[index] for index in indices]
        solution = solve(array_namespace(chosen[0]).concat(chosen), lam=lam * kind[1], workers=workers, **settings)
        ends = np.cumsum([maps.shape[0] for maps in chosen])
        for index, maps, end in zip(indices, chosen, ends, strict=True):
            results[index] = _averaged(solution, slice(end - maps.shape[0], end))
    return results


def _averaged(solution: Solution, part: slice) -> PseudoLabel:
    """Average the solved maps of one image, a slice of the solution, into its pseudo-label."""
    status, steps = solution.status[part], solution.iterations[part].tolist()
    u = average(replace(solution, u=solution.u[part], status=status))
    reason = "" if u is not None else "; ".join(sorted({entry.value.split(":")[0] for entry in status}))
    return PseudoLabel(u=u, iterations=float(np.mean(steps)), reason=reason)
