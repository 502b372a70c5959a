"""The tunables of a solve and their ranges."""

import math
from dataclasses import dataclass
from typing import get_args

from cvm_monai.errors import CvmError
from cvm_monai.knobs import DEFAULTS, MeansRule, SolverName
from cvm_monai.variational.arrays import check_numbers


@dataclass(frozen=True)
class Settings:
    """The tunables of `solve`, checked; documented there.

    Raises:
        CvmError: a value out of its range, naming it.
    """

    method: SolverName = DEFAULTS["solver"]
    lam: float = DEFAULTS["lam"]
    iterations: int = DEFAULTS["iterations"]
    tolerance: float = 1e-3
    tau: float = 1e-2
    beta: float = 1e-6
    means: MeansRule = "alternating"

    def __post_init__(self) -> None:
        for name, choices in (("method", get_args(SolverName)), ("means", get_args(MeansRule))):
            if getattr(self, name) not in choices:
                raise CvmError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        check_numbers(lam=self.lam, tolerance=self.tolerance, tau=self.tau, beta=self.beta)
        for name in ("lam", "tau", "beta"):
            if not 0 < getattr(self, name) < math.inf:
                raise CvmError(f"{name} must be a finite number greater than 0, got {getattr(self, name)!r}")
        if not (isinstance(self.iterations, int) and self.iterations >= 1):
            raise CvmError(f"iterations must be a whole number of at least 1, got {self.iterations!r}")
        if not 0 <= self.tolerance < math.inf:
            raise CvmError(f"tolerance must be a finite number of at least 0, got {self.tolerance!r}")
