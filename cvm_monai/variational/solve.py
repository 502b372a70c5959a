"""Minimise the edge-aware Chan-Vese energy of Eq. 6 for a batch of maps: start, step, stop, and one loop."""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal, get_args

import numpy as np

from cvm_monai.variational.aos import aos_step
from cvm_monai.variational.chan_vese import (
    Means,
    edge_detector,
    energy,
    region_term,
    threshold_means,
    weighted_means,
)
from cvm_monai.variational.primal_dual import DualState, primal_dual_step, relative_gap, start_dual

SolverName = Literal["aos", "primal_dual"]
MeansRule = Literal["alternating", "fixed"]

SMALLEST_STEP, STEP_DECAY, STEP_INTERVAL = 1e-3, 0.9, 50
MEANS_INTERVAL = 10
"""Steps between renewals of c1 and c2: renewed at every step while u is still soft they are drawn together, and the
contrast of the data term with them."""
GAP_INTERVAL = 10
"""Primal-dual steps between two looks at the gap, which cost about as much as a step."""
SETTLED = 1e-3
"""A change of c1 and c2 below which the alternation has ended."""


class Status(Enum):
    """How a solve ended; the value is the message: what happened, why, and what to try."""

    CONVERGED = "converged: the change of u (aos) or the duality gap (primal_dual) fell below the tolerance"
    ITERATION_LIMIT = "iteration limit reached before the tolerance: raise `iterations`, or `tolerance`"
    EMPTY_PHASE = (
        "one phase is empty: no pixel is on one side of 0.5, because the map separates nothing or lam is so small that "
        "smoothness wins; raise lam, or look at the points"
    )
    CONSTANT_MAP = "the map is constant, there is nothing to segment: the features are alike everywhere"
    NON_FINITE = "the map holds NaN or infinity: look at the network that made it"

    @property
    def usable(self) -> bool:
        """Whether u separates two phases and may enter the average of Eq. 7."""
        return self in (Status.CONVERGED, Status.ITERATION_LIMIT)


@dataclass(frozen=True)
class Solution:
    """Result for maps of shape (..., H, W); all but `u` and `history` have shape (...).

    Attributes:
        u: soft segmentation in [0, 1], (..., H, W); zeros where the status is not usable.
        c1: mean of z inside.
        c2: mean of z outside.
        energy: the discrete energy of Eq. 6 at u.
        gap: `primal_dual`: energy above the optimum for these c1 and c2, at most, divided by sum |f|; `aos`: NaN.
        iterations: steps made.
        status: array of `Status`.
        history: energy after each step, (steps, ...), when asked for, else None.
    """

    u: np.ndarray
    c1: np.ndarray
    c2: np.ndarray
    energy: np.ndarray
    gap: np.ndarray
    iterations: np.ndarray
    status: np.ndarray
    history: np.ndarray | None = None


@dataclass(frozen=True)
class Settings:
    """Checked tunables of `solve`."""

    method: SolverName = "aos"
    lam: float = 2.0
    iterations: int = 50
    tolerance: float = 1e-3
    tau: float = 1e-2
    beta: float = 1e-6
    means: MeansRule = "alternating"

    def __post_init__(self) -> None:
        if self.method not in get_args(SolverName):
            raise ValueError(f"method must be one of {get_args(SolverName)}, got {self.method!r}")
        for name in ("lam", "tau", "beta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)!r}")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations!r}")
        if self.tolerance < 0:
            raise ValueError(f"tolerance must not be negative, got {self.tolerance!r}")
        if self.means not in get_args(MeansRule):
            raise ValueError(f"means must be one of {get_args(MeansRule)}, got {self.means!r}")


@dataclass
class _State:
    """What one batch of regular maps (N, H, W) carries from step to step."""

    z: np.ndarray
    g: np.ndarray
    u: np.ndarray
    scale: np.ndarray
    means: Means
    tau: float
    done: np.ndarray
    gap: np.ndarray
    dual: DualState


def solve(
    z: np.ndarray,
    *,
    method: SolverName = "aos",
    lam: float = 2.0,
    iterations: int = 50,
    tolerance: float = 1e-3,
    tau: float = 1e-2,
    beta: float = 1e-6,
    means: MeansRule = "alternating",
    history: bool = False,
) -> Solution:
    """Segment each map of z by the energy of Eq. 6, starting from u = z.

    Args:
        z: (..., H, W) maps in [0, 1], float32 or float64; any H and W.
        method: `aos`, the paper's additive operator splitting, an approximation whose bias grows with tau; or
            `primal_dual`, Chambolle-Pock, which certifies how far from the optimum it is.
        lam: weight of the data term relative to its own maximum; lowering it smooths more and drops small parts;
            0.05 to 10.
        iterations: most steps; five of `aos` (as the authors' script) smooth z a little, hundreds approach its
            stationary point; `primal_dual` needs 50 to 500.
        tolerance: stop when ||u - u_before|| / ||u_before|| (`aos`) or the relative gap (`primal_dual`) of a map falls
            below this; 0 runs all iterations.
        tau: step size of `aos`, multiplied by 0.9 (not below 1e-3) before every 50th step; see `aos_step`.
        beta: smoothing of the total variation of `aos`; see `aos_step`.
        means: `alternating` renews c1 and c2 from u (Eq. 6's closed forms), every MEANS_INTERVAL steps of `aos`, or
            whenever the gap of `primal_dual` meets the tolerance, until they settle; `fixed` keeps those of z above and
            not above 0.5.
        history: also return the energy after each step (costs about a third more).

    Returns:
        A `Solution`; a map that cannot be segmented has a status that says why, and never harms the others.

    Raises:
        ValueError: z of fewer than two dimensions or of integers, or a tunable out of its range.
    """
    settings = Settings(
        method=method, lam=lam, iterations=iterations, tolerance=tolerance, tau=tau, beta=beta, means=means
    )
    z = np.asarray(z)
    if z.ndim < 2 or z.shape[-1] * z.shape[-2] == 0:
        raise ValueError(f"z must have shape (..., H, W) with at least one pixel, got {z.shape}")
    if not np.issubdtype(z.dtype, np.floating):
        raise ValueError(f"z must be of a floating-point type, got {z.dtype}")
    flat = z.reshape(-1, *z.shape[-2:])
    result = _solve_batch(flat, settings, history=history)
    shape = z.shape[:-2]
    facts = ("c1", "c2", "energy", "gap", "iterations", "status")
    return Solution(
        u=result.u.reshape(z.shape),
        **{name: getattr(result, name).reshape(shape) for name in facts},
        history=None if result.history is None else result.history.reshape(-1, *shape),
    )


def _solve_batch(z: np.ndarray, settings: Settings, *, history: bool) -> Solution:
    """The loop: all maps of (N, H, W) that can be solved step together, each until it meets the tolerance."""
    status = _status_at_start(z)
    active = np.flatnonzero([entry is Status.ITERATION_LIMIT for entry in status])
    result = _empty_solution(z, status)
    records: list[np.ndarray] = []
    if len(active):
        state = _start(z[active], settings)
        for step in range(1, settings.iterations + 1):
            state = _step(state, settings, step=step)
            if history:
                records.append(result.energy.copy())
                records[-1][active] = _energy(state, settings)
            done = state.done
            result.iterations[active] = step
            status[active[done]] = Status.CONVERGED
            if done.any() or step == settings.iterations:
                _store(result, state, active, settings, which=done | (step == settings.iterations))
                active, state = active[~done], _keep(state, ~done)
            if not len(active):
                break
    return replace(result, history=np.array(records)) if history else result


def _status_at_start(z: np.ndarray) -> np.ndarray:
    status = np.full(len(z), Status.ITERATION_LIMIT, dtype=object)
    for index, one in enumerate(z):
        if not np.isfinite(one).all():
            status[index] = Status.NON_FINITE
        elif one.min() == one.max():
            status[index] = Status.CONSTANT_MAP
        elif not (one > 0.5).any() or (one > 0.5).all():
            status[index] = Status.EMPTY_PHASE
    return status


def _empty_solution(z: np.ndarray, status: np.ndarray) -> Solution:
    c1, c2, energies, gap = (np.full(len(z), np.nan) for _ in range(4))
    return Solution(np.zeros_like(z), c1, c2, energies, gap, np.zeros(len(z), dtype=np.int64), status)


def _start(z: np.ndarray, settings: Settings) -> _State:
    means = threshold_means(z)
    scale = np.abs(region_term(z, means)).max(axis=(-2, -1), keepdims=True)
    return _State(
        z=z,
        g=edge_detector(z),
        u=z,
        scale=scale,
        means=means,
        tau=settings.tau,
        done=np.zeros(len(z), dtype=bool),
        gap=np.full(len(z), np.nan),
        dual=start_dual(z),
    )


def _step(state: _State, settings: Settings, *, step: int) -> _State:
    f = region_term(state.z, state.means)
    f *= settings.lam / state.scale
    if settings.method == "primal_dual":
        return _step_primal_dual(state, f, settings, step=step)
    return _step_aos(state, f, settings, step=step)


def _step_aos(state: _State, f: np.ndarray, settings: Settings, *, step: int) -> _State:
    tau = max(SMALLEST_STEP, STEP_DECAY * state.tau) if step % STEP_INTERVAL == 0 else state.tau
    alpha = np.abs(f).max(axis=(-2, -1), keepdims=True)
    u = aos_step(state.u, f, state.g, tau=tau, beta=settings.beta, alpha=alpha)
    change = np.linalg.norm(u - state.u, axis=(-2, -1)) / np.linalg.norm(state.u, axis=(-2, -1))
    renew = settings.means == "alternating" and step % MEANS_INTERVAL == 0
    means = _renewed(state, u) if renew else state.means
    return replace(state, u=u, tau=tau, means=means, done=change < settings.tolerance)


def _step_primal_dual(state: _State, f: np.ndarray, settings: Settings, *, step: int) -> _State:
    """One step; at intervals the gap, and where it is met the means are renewed, or the map is done.

    The gap that is kept always belongs to the means that are kept.
    """
    u, dual = primal_dual_step(state.u, state.dual, f, state.g)
    last = step == settings.iterations
    if step % GAP_INTERVAL and not last:
        return replace(state, u=u, dual=dual)
    gap = relative_gap(u, dual, f, state.g)
    met = gap < settings.tolerance
    if settings.means == "fixed" or last:
        return replace(state, u=u, dual=dual, gap=gap, done=met)
    fresh = _renewed(state, u)
    moved = np.maximum(np.abs(fresh.inside - state.means.inside), np.abs(fresh.outside - state.means.outside))
    go_on = met[:, None, None] & (moved > SETTLED)
    means = Means(
        np.where(go_on, fresh.inside, state.means.inside), np.where(go_on, fresh.outside, state.means.outside)
    )
    return replace(state, u=u, dual=dual, gap=gap, means=means, done=met & ~go_on[:, 0, 0])


def _renewed(state: _State, u: np.ndarray) -> Means:
    """The means of z weighted by u; where u leaves one side of 0.5 empty, those before."""
    fresh = weighted_means(state.z, u)
    usable = (u > 0.5).any(axis=(-2, -1), keepdims=True) & (u <= 0.5).any(axis=(-2, -1), keepdims=True)
    inside = np.where(usable, fresh.inside, state.means.inside)
    return Means(inside, np.where(usable, fresh.outside, state.means.outside))


def _energy(state: _State, settings: Settings) -> np.ndarray:
    return energy(state.u, state.z, state.g, state.means, weight=settings.lam / state.scale)


def _store(result: Solution, state: _State, active: np.ndarray, settings: Settings, *, which: np.ndarray) -> None:
    """Write the maps named by the mask `which` into the result; an empty phase is found here."""
    ended, indices = _keep(state, which), active[which]
    inside = (ended.u > 0.5).sum(axis=(-2, -1))
    empty = (inside == 0) | (inside == ended.u[0].size)
    result.u[indices] = np.where(empty[:, None, None], 0, np.clip(ended.u, 0, 1))
    result.c1[indices], result.c2[indices] = ended.means.inside[:, 0, 0], ended.means.outside[:, 0, 0]
    result.energy[indices], result.gap[indices] = _energy(ended, settings), ended.gap
    result.status[indices[empty]] = Status.EMPTY_PHASE


def _keep(state: _State, which: np.ndarray) -> _State:
    if which.all():
        return state
    means = Means(state.means.inside[which], state.means.outside[which])
    dual = DualState(state.dual.down[which], state.dual.along[which], state.dual.extrapolated[which])
    arrays = {name: getattr(state, name)[which] for name in ("z", "g", "u", "scale", "done", "gap")}
    return replace(state, means=means, dual=dual, **arrays)
