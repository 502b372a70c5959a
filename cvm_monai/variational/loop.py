"""Solve a batch of maps: `init`, `step`, `terminate`, and the loop that calls them."""

import math
from dataclasses import dataclass, replace

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array

from cvm_monai.variational.backends import Backend
from cvm_monai.variational.chan_vese import (
    Array,
    Means,
    edge_detector,
    energy,
    region_term,
    threshold_means,
    weighted_means,
)
from cvm_monai.variational.primal_dual import DualState, start_dual, step_ratio
from cvm_monai.variational.result import Solution, Status
from cvm_monai.variational.settings import Settings

SMALLEST_STEP, STEP_DECAY, STEP_INTERVAL = 1e-3, 0.9, 50
MEANS_INTERVAL = 10
"""AOS steps between updates of c1 and c2: updated at every step while u is still soft, they would approach each other
and weaken the contrast of the data term."""
GAP_INTERVAL = 10
"""Primal-dual steps between two computations of the gap, each of which costs about as much as a step."""
SETTLED = 1e-3
"""Change of c1 and c2 below which their alternation has converged."""
_AXES = (-2, -1)


@dataclass
class State:
    """The variables of the iteration for a batch of solvable maps (N, H, W).

    Attributes:
        z, g, fitting: the maps, their edge detectors, and the additional data term or None.
        u, before: the current u, and the previous step's (AOS; its memory is reused).
        f, alpha: data term for the current means, and max |f| of each map.
        scale: max |f1| of the initial means, (N, 1, 1).
        means: current c1 and c2.
        tau: AOS's step size.
        gap: latest relative gap, (N,) on the host.
        dual: dual state of the primal-dual method, else None.
    """

    z: Array
    g: Array
    fitting: Array | None
    u: Array
    before: Array
    f: Array
    alpha: Array
    scale: Array
    means: Means
    tau: float
    gap: np.ndarray
    dual: DualState | None


def solve_maps(
    z: Array, fitting: Array | None, settings: Settings, backend: Backend, *, history: bool = False
) -> Solution:
    """Solve maps (N, H, W) together, each until it meets the tolerance; maps that cannot be solved are left out.

    `u` of the solution is of z's kind; its other arrays are NumPy's.
    """
    status = status_at_start(z)
    result = _blank(z, status)
    active = np.flatnonzero(status == Status.ITERATION_LIMIT)
    records: list[np.ndarray] = []
    state = (
        init(_take(z, active), None if fitting is None else _take(fitting, active), settings) if len(active) else None
    )
    for number in range(1, settings.iterations + 1):
        if state is None:
            break
        step(state, settings, backend, number=number)
        ended = terminate(state, settings, backend, number=number)
        result.iterations[active] = number
        if history:
            result.energy[active] = _energies(state, settings)
            records.append(result.energy.copy())
        status[active[ended]] = Status.CONVERGED
        ended |= number == settings.iterations
        if ended.any():
            _store(result, _keep(state, ended), active[ended], settings)
            active, state = active[~ended], None if ended.all() else _keep(state, ~ended)
    return replace(result, history=np.array(records).reshape(len(records), len(z))) if history else result


def status_at_start(z: Array) -> np.ndarray:
    """Return for each map `ITERATION_LIMIT` if it can be solved, else the status that says why not."""
    xp = array_namespace(z)
    low, high = (_host(reduce(z, axis=_AXES)) for reduce in (xp.min, xp.max))
    status = np.full(len(low), Status.ITERATION_LIMIT, dtype=object)
    status[(high <= 0.5) | (low > 0.5)] = Status.EMPTY_PHASE
    status[low == high] = Status.CONSTANT_MAP
    status[~(np.isfinite(low) & np.isfinite(high))] = Status.NON_FINITE
    return status


def init(z: Array, fitting: Array | None, settings: Settings) -> State:
    """Make the state before the first step: u = z, the means of z above and not above 0.5, dual field zero."""
    xp = array_namespace(z)
    u, means = xp.asarray(z, copy=True), threshold_means(z)
    state = State(
        z=z,
        g=edge_detector(z),
        fitting=fitting,
        u=u,
        before=xp.empty_like(u) if settings.method == "aos" else u,
        f=z,
        alpha=z,
        scale=xp.max(xp.abs(region_term(z, means)), axis=_AXES, keepdims=True),
        means=means,
        tau=settings.tau,
        gap=np.full(z.shape[0], math.nan),
        dual=start_dual(u) if settings.method == "primal_dual" else None,
    )
    _renew_data_term(state, settings)
    return state


def step(state: State, settings: Settings, backend: Backend, *, number: int) -> None:
    """Advance u by one step of the method; numbers count from 1."""
    if state.dual is not None:
        backend.primal_dual_step(state.u, state.dual, state.f, state.g, ratio=step_ratio(settings.lam))
        return
    if number % STEP_INTERVAL == 0:
        state.tau = max(SMALLEST_STEP, STEP_DECAY * state.tau)
    tunables = {"tau": state.tau, "beta": settings.beta, "alpha": state.alpha}
    fresh = backend.aos_step(state.u, state.f, state.g, **tunables, out=state.before)
    state.before, state.u = state.u, fresh
    if settings.means == "alternating" and number % MEANS_INTERVAL == 0:
        state.means = _fresh_means(state)
        _renew_data_term(state, settings)


def terminate(state: State, settings: Settings, backend: Backend, *, number: int) -> np.ndarray:
    """Decide which maps have met the tolerance, (N,) bool on the host.

    Where a map of the primal-dual method has met it but c1 and c2 still change, they are updated and the map continues,
    so that the gap in the solution always belongs to the c1 and c2 in it.
    """
    going_on = np.zeros(len(state.gap), dtype=bool)
    if state.dual is None:
        if settings.tolerance == 0:
            return going_on
        xp = array_namespace(state.u)
        squares = (xp.sum(part * part, axis=_AXES) for part in (state.u - state.before, state.before))
        change, size = (np.sqrt(_host(value)) for value in squares)
        return change < settings.tolerance * size
    last = number == settings.iterations
    if number % GAP_INTERVAL and not last:
        return going_on
    state.gap = _host(backend.relative_gap(state.u, state.dual, state.f, state.g))
    met = state.gap < settings.tolerance
    if settings.means == "fixed" or last or not met.any():
        return met
    return met & ~_renew_moved_means(state, settings, met)


def _renew_moved_means(state: State, settings: Settings, met: np.ndarray) -> np.ndarray:
    """Update c1 and c2 of the maps in the mask whose means still change; return which these are."""
    xp = array_namespace(state.u)
    fresh, old = _fresh_means(state), state.means
    moved = xp.maximum(xp.abs(fresh.inside - old.inside), xp.abs(fresh.outside - old.outside))
    chosen = xp.asarray(met, device=device(state.u))[:, None, None] & (moved > SETTLED)
    state.means = Means(xp.where(chosen, fresh.inside, old.inside), xp.where(chosen, fresh.outside, old.outside))
    _renew_data_term(state, settings)
    return _host(chosen)[:, 0, 0]


def _fresh_means(state: State) -> Means:
    """Compute the means of z weighted by u; where u leaves one side of 0.5 empty, keep the previous ones."""
    xp = array_namespace(state.u)
    fresh, old = weighted_means(state.z, state.u), state.means
    low, high = (reduce(state.u, axis=_AXES, keepdims=True) for reduce in (xp.min, xp.max))
    usable = (high > 0.5) & (low <= 0.5)
    return Means(xp.where(usable, fresh.inside, old.inside), xp.where(usable, fresh.outside, old.outside))


def _renew_data_term(state: State, settings: Settings) -> None:
    xp = array_namespace(state.z)
    state.f = region_term(state.z, state.means)
    state.f *= settings.lam / state.scale
    if state.fitting is not None:
        state.f += state.fitting
    state.alpha = xp.max(xp.abs(state.f), axis=_AXES, keepdims=True)


def _energies(state: State, settings: Settings) -> np.ndarray:
    weight = settings.lam / state.scale
    return _host(energy(state.u, state.z, state.g, state.means, weight=weight, fitting=state.fitting))


def _blank(z: Array, status: np.ndarray) -> Solution:
    c1, c2, energies, gap = (np.full(len(status), math.nan) for _ in range(4))
    steps = np.zeros(len(status), dtype=np.int64)
    return Solution(array_namespace(z).zeros_like(z), c1, c2, energies, gap, steps, status)


def _store(result: Solution, ended: State, indices: np.ndarray, settings: Settings) -> None:
    """Write maps that ended into the result; empty phases and overflows are detected here."""
    xp = array_namespace(ended.u)
    low, high = (_host(reduce(ended.u, axis=_AXES)) for reduce in (xp.min, xp.max))
    result.energy[indices] = _energies(ended, settings)
    result.gap[indices] = ended.gap
    result.c1[indices], result.c2[indices] = (_host(c)[:, 0, 0] for c in (ended.means.inside, ended.means.outside))
    result.status[indices[(high <= 0.5) | (low > 0.5)]] = Status.EMPTY_PHASE
    result.status[indices[~np.isfinite(low + high)]] = Status.NON_FINITE
    for position, index in enumerate(indices):
        if result.status[index].usable:
            result.u[index] = xp.clip(ended.u[position], 0.0, 1.0)


def _keep(state: State, which: np.ndarray) -> State:
    """Select the state of the maps in a mask."""
    if which.all():
        return state
    index = np.flatnonzero(which)
    names = ("z", "g", "u", "before", "f", "alpha", "scale")
    taken = {name: _take(getattr(state, name), index) for name in names}
    dual = state.dual
    return State(
        **taken,
        fitting=None if state.fitting is None else _take(state.fitting, index),
        means=Means(_take(state.means.inside, index), _take(state.means.outside, index)),
        tau=state.tau,
        gap=state.gap[index],
        dual=None
        if dual is None
        else DualState(*(_take(part, index) for part in (dual.down, dual.along, dual.extrapolated))),
    )


def _take(maps: Array, index: np.ndarray) -> Array:
    """Select maps by index; without a copy if all are selected."""
    if len(index) == maps.shape[0]:
        return maps
    xp = array_namespace(maps)
    return xp.take(maps, xp.asarray(index, device=device(maps)), axis=0)


def _host(values: Array) -> np.ndarray:
    """Convert a small array to NumPy."""
    return values.cpu().numpy() if is_torch_array(values) else np.asarray(values)
