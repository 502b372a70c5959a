"""Box plot of the Dice of every case of a run."""

from collections.abc import Mapping
from math import isnan
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvm_monai.errors import CvmError
from cvm_monai.figures import palette
from cvm_monai.figures.curves import tidy

CLOSE = 0.012
"""Points closer than this in Dice are moved apart."""


def dice_box(dice: Mapping[str, float | None], *, title: str = "") -> Figure:
    """Draw a box plot with a point for every case; the worst case is named.

    Args:
        dice: by case id; None or NaN if it is undefined: left out and counted below the axis.
        title: what was tested; none by default.

    Raises:
        CvmError: no case has a defined Dice.
    """
    defined = {name: float(value) for name, value in dice.items() if value is not None and not isnan(value)}
    if not defined:
        raise CvmError("no case has a Dice to draw: at least one image needs a ground truth or prediction with target")
    names = sorted(defined, key=lambda name: (defined[name], name))
    values = np.array([defined[name] for name in names])
    figure = Figure(figsize=(6.3, 1.9), dpi=palette.DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    draw_box(axes, values)
    axes.plot(values, 1 + spread(values), "o", color=palette.BLUE, alpha=0.65, markersize=4, markeredgewidth=0)
    _name_worst(axes, names[0], values[0])
    axes.set(xlim=(-0.02, 1.02), ylim=(0.4, 1.6), yticks=[])
    left_out = f", {len(dice) - len(values)} without a Dice left out" * (len(dice) > len(values))
    label = f"Dice ({len(values)} images{left_out})"
    axes.set_xlabel(label, fontsize=palette.TEXT_SIZE, color=palette.INK)
    axes.set_title(title, fontsize=palette.TITLE_SIZE, color=palette.INK, parse_math=False)
    tidy(axes)
    axes.spines["left"].set_visible(False)
    return figure


def draw_box(axes: Axes, values: np.ndarray, *, at: float = 1.0, half: float = 0.35) -> None:
    """Draw quartiles, median, and whiskers to the last point within 1.5 interquartile ranges, horizontally at `at`."""
    box = boxplot_stats(values)[0]
    low, high = box["q1"], box["q3"]
    line: dict[str, Any] = {"color": palette.INK, "linewidth": 1.0}
    axes.hlines([at, at], [box["whislo"], high], [low, box["whishi"]], **line)
    axes.vlines([box["whislo"], box["whishi"]], at - half / 2, at + half / 2, **line)
    frame = Rectangle((low, at - half), high - low, 2 * half, facecolor=palette.TILE, edgecolor=palette.INK)
    axes.add_patch(frame)
    axes.vlines(box["med"], at - half, at + half, color=palette.VERMILION, linewidth=2.0, zorder=frame.get_zorder() + 1)


def _name_worst(axes: Axes, name: str, value: float) -> None:
    """Write the worst case's name above its point, on the side with more room."""
    left = value < 0.5
    axes.annotate(
        name,
        (value, 1),
        xytext=(0, 34),
        textcoords="offset points",
        ha="left" if left else "right",
        fontsize=palette.SMALL_SIZE,
        color=palette.MUTED,
        parse_math=False,
        arrowprops={
            "arrowstyle": "-",
            "color": palette.MUTED,
            "linewidth": 0.5,
            "relpos": (0 if left else 1, 0),
            "shrinkA": 1,
            "shrinkB": 3,
        },
    )


def spread(values: np.ndarray) -> np.ndarray:
    """Compute offsets of sorted values across the axis, so that close points do not overlap."""
    offsets, run = np.zeros(values.size), 0
    for index in range(1, values.size):
        run = run + 1 if values[index] - values[index - 1] < CLOSE else 0
        offsets[index] = (-1) ** run * 0.07 * ((run + 1) // 2 % 4)
    return offsets
