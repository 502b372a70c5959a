"""Dice of every case of a run."""

from collections.abc import Mapping
from math import isnan

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cvm_monai.figures import palette
from cvm_monai.figures.curves import tidy

CLOSE = 0.012
"""Points nearer than this in Dice are moved apart."""


def dice_box(dice: Mapping[str, float | None], *, title: str = "") -> Figure:
    """Box and points: the median, the middle half and every case; the worst one is named.

    Args:
        dice: by case id; None or NaN where it is undefined: left out and counted under the axis.
        title: what was tested; none by default.

    Raises:
        ValueError: no case defines a Dice.
    """
    defined = {name: float(value) for name, value in dice.items() if value is not None and not isnan(value)}
    if not defined:
        raise ValueError("no case has a Dice to draw: at least one image needs a ground truth or prediction with target")
    names = sorted(defined, key=lambda name: (defined[name], name))
    values = np.array([defined[name] for name in names])
    figure = Figure(figsize=(6.3, 1.9), dpi=palette.DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    line = {"color": palette.INK, "linewidth": 1.0}
    axes.boxplot(
        [values],
        orientation="horizontal",
        widths=0.7,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": palette.TILE, "edgecolor": palette.INK, "linewidth": 1.0},
        medianprops={"color": palette.VERMILION, "linewidth": 2.0},
        whiskerprops=line,
        capprops=line,
    )
    axes.plot(values, 1 + _spread(values), "o", color=palette.BLUE, alpha=0.65, markersize=4, markeredgewidth=0)
    style = {"fontsize": palette.SMALL_SIZE, "color": palette.MUTED, "parse_math": False}
    axes.annotate(names[0], (values[0], 1), xytext=(0, 32), textcoords="offset points", ha="left", **style)
    axes.set(xlim=(-0.02, 1.02), ylim=(0.4, 1.6), yticks=[])
    left_out = f", {len(dice) - len(values)} without a Dice left out" * (len(dice) > len(values))
    label = f"Dice ({len(values)} images{left_out})"
    axes.set_xlabel(label, fontsize=palette.TEXT_SIZE, color=palette.INK)
    axes.set_title(title, fontsize=palette.TITLE_SIZE, color=palette.INK, parse_math=False)
    tidy(axes)
    axes.spines["left"].set_visible(False)
    return figure


def _spread(values: np.ndarray) -> np.ndarray:
    """Offsets of sorted values across the axis, so that close ones do not hide each other."""
    offsets, run = np.zeros(values.size), 0
    for index in range(1, values.size):
        run = run + 1 if values[index] - values[index - 1] < CLOSE else 0
        offsets[index] = (-1) ** run * 0.07 * ((run + 1) // 2 % 4)
    return offsets
