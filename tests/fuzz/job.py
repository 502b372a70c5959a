"""What every case is made of: a command, and the folder of all its inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Job:
    """A command, and the folder of all its inputs.

    Attributes:
        argv: what is typed after `cvm-monai`.
        inputs: they must be as before when the command has ended.
        changed: parts of them that the command is there to change, relative to it.
    """

    argv: tuple[str, ...]
    inputs: Path
    changed: tuple[str, ...] = ()


Surface = Callable[[np.random.Generator, Path, Path], Job]
"""(rng, empty folder, folder of a good training) -> a job; what it writes goes into the empty folder."""


def chosen(rng: np.random.Generator, options: str | tuple[str, ...] | list[str]) -> str:
    """One of some texts."""
    return options[rng.integers(len(options))]
