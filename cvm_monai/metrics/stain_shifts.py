"""Format the Dice of a test with stronger or weaker staining: table, text and metrics."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Literal, get_args

from cvm_monai.files import write_table
from cvm_monai.metrics.summary import MetricSummary
from cvm_monai.metrics.tables import mean_and_sd

StainName = Literal["haematoxylin", "eosin"]
STAIN_NAMES: tuple[StainName, ...] = get_args(StainName)

SHIFT_COLUMNS = ("stain", "factor", "dice_mean", "dice_sd", "images", "left_out")


@dataclass(frozen=True)
class ShiftedDice:
    """Dice over the test images with the concentration of one stain multiplied by a factor; 1 is the unchanged test."""

    stain: StainName
    factor: float
    dice: MetricSummary


def shifts_markdown(rows: Sequence[ShiftedDice]) -> str:
    """Write a Markdown section; the change is that of the mean relative to factor 1.

    Args:
        rows: including the factor 1 of each stain.
    """
    unshifted = {row.stain: row.dice.mean for row in rows if row.factor == 1}
    lines = [
        "",
        "## Dice under stain shifts",
        "",
        "The test images once more, with the concentration of one stain multiplied by a factor, as another laboratory "
        "might stain them (vectors of Ruifrok and Johnston; Lambert-Beer). Factor 1 is the test itself.",
        "",
        "| Stain | Factor | Dice, mean ± SD over images | Change | Images |",
        "|---|---|---|---|---|",
        *(_line(row, unshifted[row.stain]) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def write_shifts_csv(path: Path, rows: Iterable[ShiftedDice]) -> None:
    """Write one line per stain and factor atomically; an undefined number is an empty cell."""
    lines: list[Sequence[object]] = [SHIFT_COLUMNS]
    for row in rows:
        cells = ["" if isnan(value) else f"{value:.6f}" for value in (row.dice.mean, row.dice.sd)]
        lines.append([row.stain, f"{row.factor:g}", *cells, row.dice.n, row.dice.left_out])
    write_table(path, lines)


def shift_metrics(rows: Sequence[ShiftedDice]) -> dict[str, float]:
    """Return `test_stain_haematoxylin_0.6_dice` and so on, and the lowest of them, `test_stain_lowest_dice`."""
    shifted = [row for row in rows if row.factor != 1]
    found = {f"test_stain_{row.stain}_{row.factor:g}_dice": row.dice.mean for row in shifted}
    defined = [value for value in found.values() if not isnan(value)]
    return found | ({"test_stain_lowest_dice": min(defined)} if defined else {})


def _line(row: ShiftedDice, unshifted: float) -> str:
    change = row.dice.mean - unshifted
    shown = "" if row.factor == 1 or isnan(change) else f"{change:+.3f}"
    images = f"{row.dice.n} ({row.dice.left_out} left out)" if row.dice.left_out else f"{row.dice.n}"
    return f"| {row.stain} | {row.factor:g} | {mean_and_sd(row.dice)} | {shown} | {images} |"
