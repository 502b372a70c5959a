"""Read the progress of a training from its run folder: epochs, curves and remaining time from the log, and figures."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from cvm_monai.annotate.training import LOG
from cvm_monai.files import read_record

EPOCH = re.compile(r"epoch (\d+)/(\d+): (.*)$")
"""The line of `engines.progress.Progress` at the end of an epoch."""

TERM = re.compile(r"^([a-z][a-z0-9_]*) (-?[0-9.]+(?:e[-+]?[0-9]+)?|nan|inf)$")
LEFT = re.compile(r"(?:(\d+):)?(\d+):(\d+) left$")
SECONDS = re.compile(r"^([0-9.]+) s\b")

FIGURES = ("pseudo_labels.png",)
"""Figures of a run folder that are shown: u of some images as it stands. The page draws the curves itself."""


@dataclass(frozen=True)
class Progress:
    """Progress of a training.

    Attributes:
        epoch, max_epochs: the last complete epoch, and how many there will be; 0 before the first.
        seconds: sum over the epochs.
        remaining: seconds; None where unknown.
        curves: (epoch, value) by name: the terms of the loss, their names beginning with `train_`, and validation.
    """

    epoch: int = 0
    max_epochs: int = 0
    seconds: float = 0.0
    remaining: float | None = None
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def read_progress(folder: Path) -> Progress:
    """Read the progress; an epoch that was repeated after an interruption counts once."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Progress()
    epochs: dict[int, tuple[int, str]] = {}
    for line in lines:
        if (match := EPOCH.search(line)) is not None:
            epochs[int(match[1])] = (int(match[2]), match[3])
    if not epochs:
        return Progress()
    curves: dict[str, dict[int, float]] = {}
    seconds = 0.0
    for epoch, (_, text) in sorted(epochs.items()):
        for part in text.split(", "):
            if (term := TERM.match(part)) is not None:
                name = term[1] if term[1].startswith("val_") else f"train_{term[1]}"
                curves.setdefault(name, {})[epoch] = float(term[2])
            elif (took := SECONDS.match(part)) is not None:
                seconds += float(took[1])
    last = max(epochs)
    left = LEFT.search(epochs[last][1])
    remaining = None if left is None else float(int(left[1] or 0) * 3600 + int(left[2]) * 60 + int(left[3]))
    found = {name: sorted(values.items()) for name, values in curves.items()}
    return Progress(last, epochs[last][0], seconds, remaining, found)


def figures(folder: Path) -> list[Path]:
    """Return the figures of a training that exist by now."""
    return [file for name in FIGURES if (file := folder / "figures" / name).is_file()]


def training_seconds(folder: Path) -> float | None:
    """Return the seconds of a finished training; None where they are not recorded."""
    value = (read_record(folder / "run.json") or {}).get("training_seconds")
    return float(value) if isinstance(value, int | float) else None
