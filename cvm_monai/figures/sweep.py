"""Plot a score against a varied value, with error bars: one line per method or setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from cvm_monai.errors import CvmError
from cvm_monai.figures import palette
from cvm_monai.figures.curves import tidy

MARKERS = ("o", "s", "^", "D", "v", "P")
APART = 0.018
"""Fraction of the width by which the points of two lines at one value are moved apart, to keep their bars readable."""

LEAST_SPAN = 0.1
"""Minimum range of the score's axis, so that small differences are not exaggerated."""


@dataclass(frozen=True)
class Measured:
    """A mean and its spread (0 if there is none)."""

    mean: float
    sd: float


@dataclass(frozen=True)
class SweepPanel:
    """Data of one panel.

    Attributes:
        label: of the varied value.
        lines: {name: {value: score}}.
        default: a value marked by a dotted line.
        level: name and score of an entry that does not depend on the value.
        log: logarithmic axis; the values must be above 0.
    """

    label: str
    lines: Mapping[str, Mapping[float, Measured]]
    default: float | None = None
    level: tuple[str, Measured] | None = None
    log: bool = False


def sweep_curves(panels: Sequence[SweepPanel], *, label: str = "Dice") -> Figure:
    """Draw panels side by side with a common score axis; bars and bands: mean ± spread.

    Args:
        panels: from left to right.
        label: of the score.

    Raises:
        CvmError: no panel, or one without a score.
    """
    if not panels or not all(any(panel.lines.values()) for panel in panels):
        raise CvmError("there is no score to draw: at least one run must have finished")
    size = (1.2 + 3.2 * len(panels), 3.0)
    figure = Figure(figsize=size, dpi=palette.DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(row, panels, strict=True):
        _draw(axes, panel)
    row[0].set_ylim(*_limits(panels))
    row[0].set_ylabel(label, fontsize=palette.TEXT_SIZE, color=palette.INK)
    return figure


def _draw(axes: Axes, panel: SweepPanel) -> None:
    values = sorted({value for line in panel.lines.values() for value in line})
    if panel.log:
        axes.set_xscale("log")
    if panel.level:
        _level(axes, *panel.level)
    if panel.default is not None:
        axes.axvline(panel.default, color=palette.MUTED, linewidth=0.8, linestyle=":", label="default")
    for index, (name, line) in enumerate(panel.lines.items()):
        places = _places(sorted(line), values, index - (len(panel.lines) - 1) / 2, log=panel.log)
        scores = [line[value] for value in sorted(line)]
        style: dict[str, Any] = {"color": palette.LINES[index % len(palette.LINES)], "linewidth": 1.3, "markersize": 4}
        axes.errorbar(
            places,
            [score.mean for score in scores],
            yerr=[score.sd for score in scores],
            marker=MARKERS[index % len(MARKERS)],
            capsize=2.5,
            elinewidth=0.8,
            label=name,
            **style,
        )
    tidy(axes)
    axes.grid(axis="y", color=palette.FAINT, linewidth=0.5)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(values, [f"{value:.12g}" for value in values])
    axes.set_xlabel(panel.label, fontsize=palette.TEXT_SIZE, color=palette.INK)
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        frameon=False,
        fontsize=palette.SMALL_SIZE,
        labelcolor=palette.INK,
    )


def _level(axes: Axes, name: str, score: Measured) -> None:
    """Draw a dashed line over the whole width, its spread as a band."""
    axes.axhspan(score.mean - score.sd, score.mean + score.sd, color=palette.TILE, linewidth=0)
    axes.axhline(score.mean, color=palette.MUTED, linewidth=1.0, linestyle="--", label=name)


def _places(line: Sequence[float], values: Sequence[float], step: float, *, log: bool) -> list[float]:
    """Shift the values of a line by `step` times `APART` of the width."""
    if log:
        return [value * (values[-1] / values[0]) ** (step * APART) for value in line]
    return [value + step * APART * (values[-1] - values[0]) for value in line]


def _limits(panels: Sequence[SweepPanel]) -> tuple[float, float]:
    """Limits of the score's axis: all bars and a margin, at least `LEAST_SPAN` wide."""
    scores = [score for panel in panels for line in panel.lines.values() for score in line.values()]
    scores += [panel.level[1] for panel in panels if panel.level]
    low, high = min(score.mean - score.sd for score in scores), max(score.mean + score.sd for score in scores)
    margin = max(0.06 * (high - low), (LEAST_SPAN - (high - low)) / 2)
    return low - margin, high + margin
