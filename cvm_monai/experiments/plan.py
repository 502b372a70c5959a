"""Plan the runs of a comparison: every arm on every fold with every seed, each in its own folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from cvm_monai.errors import CvmError
from cvm_monai.files import shown
from cvm_monai.knobs import SupervisionName
from cvm_monai.supervision.factory import METHODS

ALL = "all"
REFERENCE, LOWER, UPPER = "cvm", "partial_ce", "full"
"""The proposed method, the method with points only, and the method with dense masks."""

MOST = 10_000
"""Maximum number of folds, and of seeds, of a comparison."""

PROBE = "frozen_linear_probe"
PROBE_TITLE = "Frozen linear probe"
PROBE_DIFFERS = "another network: one linear layer on the frozen extractor's features"
"""The only arm that differs from another in its network alone."""

FROZEN: Mapping[str, Mapping[str, str]] = {
    PROBE: {
        "supervision": "partial_ce",
        "network": "frozen_probe",
        "network_channels": "None",
        "encoder_weights": "None",
    },
    "frozen_cvm": {"supervision": "frozen_cvm"},
}
"""Methods that need the file of a frozen extractor, and the knobs that define them."""


@dataclass(frozen=True)
class Arm:
    """One row of a table: its name, and the knobs that define it, as text."""

    name: str
    knobs: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Run:
    """One training and its evaluation.

    Attributes:
        arm: its row of the table.
        fold: the test fold.
        seed: of weights, order, augmentation and validation patients.
        folder: its output folder.
        knobs: name and text of all further knobs, including the arm's own.
    """

    arm: str
    fold: int
    seed: int
    folder: Path
    knobs: Mapping[str, str]

    @property
    def name(self) -> str:
        """`cvm, fold 0, seed 0`."""
        return f"{self.arm}, fold {self.fold}, seed {self.seed}"


def parse_methods(text: str, *, extractor: str | None = None, weights: str | None = None) -> tuple[Arm, ...]:
    """Convert `all` or comma-separated names to arms in the order of `SupervisionName`, those of `FROZEN` last.

    `all` are those that can be trained: the ones of `FROZEN` only if an `extractor` is given, by its path, or by its
    name with or without the path of its `weights`.

    Raises:
        CvmError: an unknown name, no name, or a method that needs an extractor if none is given.
    """
    known = [name for name in get_args(SupervisionName) if name not in FROZEN] + list(FROZEN)
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if asked == [ALL]:
        asked = [name for name in known if extractor or name not in FROZEN]
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        got = shown(unknown[0]) if unknown else "none"
        raise CvmError(f"--methods must be {ALL}, or some of {', '.join(known)} with commas between them, got {got}")
    frozen = [name for name in asked if name in FROZEN]
    if frozen and not extractor:
        raise CvmError(f"the method {frozen[0]} needs a frozen extractor: give it by --extractor_path")
    path = {"extractor_path": str(extractor)} | ({} if weights is None else {"extractor_weights": weights})
    own = {name: {**FROZEN[name], **path} if name in FROZEN else {"supervision": name} for name in asked}
    return tuple(Arm(name, own[name]) for name in known if name in own)


def parse_only(text: str | None, *, folds: int) -> tuple[int, ...]:
    """Parse folds to test such as `0,2`; all of them by default.

    Raises:
        CvmError: not existing folds, or more of them than `MOST`.
    """
    if folds > MOST:
        raise CvmError(f"--folds must be at most {MOST}, got {folds}")
    if text is None:
        return tuple(range(folds))
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) < folds for part in parts):
        raise CvmError(f"--only must name folds from 0 to {folds - 1} with commas between them, got {shown(text)}")
    return tuple(sorted({int(part) for part in parts}))


def plan_runs(
    arms: Sequence[Arm], *, folds: Sequence[int], seeds: int, output: Path, knobs: Mapping[str, str]
) -> tuple[Run, ...]:
    """List all runs, fold by fold, so that an interrupted comparison has complete folds.

    Raises:
        CvmError: fewer than one seed, or more than `MOST`.
    """
    if seeds < 1:
        raise CvmError(f"--seeds must be at least 1, got {seeds}")
    if seeds > MOST:
        raise CvmError(f"--seeds must be at most {MOST}, got {seeds}")
    return tuple(
        Run(arm.name, fold, seed, output / "runs" / arm.name / f"fold{fold}_seed{seed}", {**knobs, **arm.knobs})
        for seed in range(seeds)
        for fold in folds
        for arm in arms
    )


def title(arm: str) -> str:
    """Display name of a method in tables and figures; an unknown name has its underscores replaced."""
    found = PROBE_TITLE if arm == PROBE else METHODS[arm].title if arm in METHODS else arm.replace("_", " ")
    return f"{found} (ours)" if _beyond_paper(arm) else found


def ours_notes(arms: Iterable[str]) -> list[str]:
    """Return a sentence about the methods that are ours; none if no method is."""
    found = [f"{title(arm)}: {_beyond_paper(arm)}" for arm in arms if _beyond_paper(arm)]
    return [f"Beyond the paper's table, {'; '.join(found)}."] if found else []


def _beyond_paper(arm: str) -> str:
    return PROBE_DIFFERS if arm == PROBE else METHODS[arm].beyond_paper if arm in METHODS else ""
