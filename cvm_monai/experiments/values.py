"""Parse the values that an ablation varies, as given on the command line."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from cvm_monai.errors import CvmError
from cvm_monai.experiments.layout import Sweep
from cvm_monai.files import shown
from cvm_monai.knobs import SolverName

Value = TypeVar("Value")

SOLVERS: Mapping[SolverName, str] = {"aos": "AOS", "primal_dual": "primal-dual"}


@dataclass(frozen=True, order=True)
class SolverSetting:
    """A solver with its settings, ordered as in the table."""

    solver: SolverName
    iterations: int
    lam: float

    @property
    def arm(self) -> str:
        """Name of its arm, such as `AOS_50_lam_0.5`."""
        return f"{SOLVERS[self.solver].replace('-', '_')}_{self.iterations}_lam_{text_of(self.lam)}"

    @property
    def knobs(self) -> dict[str, str]:
        """The setting as knobs of a training."""
        return {"solver": self.solver, "iterations": str(self.iterations), "lam": text_of(self.lam)}


def read_values(text: str, read: Callable[[str], Value | None], *, expected: str) -> list[Value]:
    """Parse comma-separated values, in ascending order, without duplicates.

    Args:
        read: parses one value; None for an invalid word.
        expected: description of valid values, for the error.

    Raises:
        CvmError: an invalid word.
    """
    found: set[Any] = set()
    for word in (part.strip() for part in text.split(",")):
        if (value := read(word)) is None:
            raise CvmError(f"--values must be {expected}, with commas between them, got {shown(word)}")
        found.add(value)
    return sorted(found)


def whole(word: str) -> int | None:
    """Parse an integer of at least 1."""
    return int(word) if word.isascii() and word.isdecimal() and int(word) >= 1 else None


def number(word: str, *, high: float = math.inf) -> float | None:
    """Parse a finite number from 0 to `high`."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if 0 <= value <= high and math.isfinite(value) else None


def solver_setting(word: str) -> SolverSetting | None:
    """Parse `aos:50:0.5`: solver, iterations, lam."""
    parts = word.split(":")
    names = {name: name for name in get_args(SolverName)}
    if len(parts) != 3 or parts[0] not in names:
        return None
    iterations, lam = whole(parts[1]), number(parts[2])
    return SolverSetting(names[parts[0]], iterations, lam) if iterations and lam else None


def text_of(value: float) -> str:
    """Format without trailing zeros: `0.5`, `1`."""
    return f"{value:.12g}"


def solver_sweeps(settings: Sequence[SolverSetting], *, usual: SolverSetting, level: str) -> tuple[Sweep, ...]:
    """Plot Dice against lam per solver and number of iterations, and against iterations per solver and lam.

    A line needs at least two values; a panel needs at least one line.

    Args:
        usual: the bundle's own setting, which is marked.
        level: the arm of the level line.
    """
    by_lam: dict[str, dict[float, str]] = {}
    by_iterations: dict[str, dict[float, str]] = {}
    for entry in settings:
        name = SOLVERS[entry.solver]
        by_lam.setdefault(f"{name}, {entry.iterations} iterations", {})[entry.lam] = entry.arm
        by_iterations.setdefault(f"{name}, lam {text_of(entry.lam)}", {})[float(entry.iterations)] = entry.arm
    panels = (("lam", by_lam, usual.lam), ("Iterations", by_iterations, float(usual.iterations)))
    sweeps = []
    for label, lines, default in panels:
        long = {name: line for name, line in lines.items() if len(line) > 1}
        shown = any(default in line for line in long.values())
        sweeps.append(Sweep(label, long, default if shown else None, level, log=True))
    return tuple(sweep for sweep in sweeps if sweep.lines)
