"""The result of a solve and its status."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from cvm_monai.variational.chan_vese import Array


class Status(Enum):
    """How a solve ended; the value is the message: what happened, why, and what to try."""

    CONVERGED = "converged: the change of u (aos) or the duality gap (primal_dual) fell below the tolerance"
    ITERATION_LIMIT = "iteration limit reached before the tolerance: raise `iterations`, or `tolerance`"
    EMPTY_PHASE = (
        "one phase is empty: no pixel is on one side of 0.5, because the map separates nothing or lam is so small that "
        "smoothness wins; raise lam, or look at the points"
    )
    CONSTANT_MAP = "the map is constant, there is nothing to segment: the features are alike everywhere"
    NON_FINITE = "the map holds NaN or infinity, or values too large to square: look at the network that made it"

    @property
    def usable(self) -> bool:
        """Whether u separates two phases and may enter the average of Eq. 7."""
        return self in (Status.CONVERGED, Status.ITERATION_LIMIT)


@dataclass(frozen=True)
class Solution:
    """Result for maps of shape (..., H, W); all but `u` and `history` have shape (...).

    NumPy arrays for NumPy maps; torch tensors on the maps' device, but for `status`, for torch maps.

    Attributes:
        u: soft segmentation in [0, 1], (..., H, W); zeros where the status is not usable.
        c1: mean of z inside.
        c2: mean of z outside.
        energy: the discrete energy of Eq. 6 at u, float64.
        gap: `primal_dual`: upper bound of the energy above the optimum for these c1 and c2, over sum |f|; `aos`: NaN.
        iterations: steps made.
        status: array of `Status`.
        history: energy after each step, (steps, ...), when asked for, else None; a map that ended keeps its last.
    """

    u: Array
    c1: Array
    c2: Array
    energy: Array
    gap: Array
    iterations: Array
    status: np.ndarray
    history: Array | None = None
