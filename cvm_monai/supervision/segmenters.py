"""From an image's evidence maps to its pseudo-label: plain functions, run in worker processes."""

from typing import Any

import numpy as np

from cvm_monai.supervision.pseudo_label import PseudoLabel
from cvm_monai.variational import average, solve


def solve_and_average(maps: np.ndarray, **settings: Any) -> PseudoLabel:
    """Solve each of the (P, h, w) maps by Eq. 6 with `solve`'s settings and average them by Eq. 7."""
    solution = solve(maps, **settings)
    u = average(solution)
    reason = "" if u is not None else "; ".join(sorted({entry.value.split(":")[0] for entry in solution.status}))
    return PseudoLabel(u=u, iterations=float(solution.iterations.mean()), reason=reason)
