"""Figures of several methods: a box plot per method, and their heat maps side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cvm_monai.errors import CvmError
from cvm_monai.figures import palette, panels
from cvm_monai.figures.box import draw_box, spread
from cvm_monai.figures.curves import tidy
from cvm_monai.figures.keys import colour_bar, key, point_handles, truth_handles
from cvm_monai.figures.layout import Grid
from cvm_monai.metrics import IGNORED

TILE = 1.25
"""Width of a panel of `method_maps` in inches."""


@dataclass(frozen=True, eq=False)
class MethodMaps:
    """One case with the probability maps of several methods.

    Attributes:
        case_id: its name.
        image: (H, W, 3) uint8.
        points: (N, 3) x, y, label, as in `FigureRow`.
        truth: (h, w) {0, 1, 255}.
        maps: probability of the target by method, (h, w); None for a method without one.
        dice: by method, for the captions.
    """

    case_id: str
    image: np.ndarray
    points: np.ndarray
    truth: np.ndarray
    maps: Mapping[str, np.ndarray | None]
    dice: Mapping[str, float]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels."""
        return self.image.shape[1], self.image.shape[0]


def method_boxes(scores: Mapping[str, Sequence[float]], *, apart: str | None = None, label: str = "Dice") -> Figure:
    """Draw one box plot per method, from top to bottom, with a point for every case.

    Args:
        scores: finite values by the method's display name.
        apart: a method drawn below a separating line, such as an upper bound.
        label: of the axis.

    Raises:
        CvmError: no method has a score.
    """
    shown = {name: np.sort(np.asarray(values, dtype=np.float64)) for name, values in scores.items() if len(values)}
    if not shown:
        raise CvmError("no method has a score to draw: at least one run must have finished")
    height = 0.55 + 0.42 * len(shown)
    figure = Figure(figsize=(6.3, height), dpi=palette.DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for place, values in enumerate(shown.values()):
        draw_box(axes, values, at=place, half=0.3)
        offsets = place + 0.9 * spread(values)
        axes.plot(values, offsets, "o", color=palette.BLUE, alpha=0.55, markersize=3, markeredgewidth=0, zorder=5)
    if apart in shown:
        axes.axhline([*shown].index(apart) - 0.5, color=palette.MUTED, linewidth=0.6, linestyle=":")
    axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.45, -0.55))
    axes.set_yticks(range(len(shown)), [f"{name} ({len(values)})" for name, values in shown.items()])
    axes.set_xlabel(label, fontsize=palette.TEXT_SIZE, color=palette.INK)
    tidy(axes)
    axes.tick_params(axis="y", length=0, labelsize=palette.TEXT_SIZE)
    axes.grid(axis="x", color=palette.FAINT, linewidth=0.5)
    return figure


def method_maps(rows: Sequence[MethodMaps], *, methods: Mapping[str, str]) -> Figure:
    """Draw one row per case: image with points, ground truth, and each method's probability (the paper's Figure 4).

    Args:
        rows: the cases, from top to bottom.
        methods: column title of each method of `maps`, in the order of the columns.

    Raises:
        CvmError: no case.
    """
    if not rows:
        raise CvmError("there is no case to draw: give at least one row")
    columns = len(methods) + 2
    grid = Grid([row.size for row in rows], columns=columns, tile=TILE)
    figure = Figure(figsize=grid.size, dpi=palette.DPI, facecolor="white")
    FigureCanvasAgg(figure)
    heat = None
    for index, row in enumerate(rows):
        tiles = [figure.add_axes(grid.tile(index, column, row.size)) for column in range(columns)]
        panels.draw_image(tiles[0], row.image)
        panels.draw_points(tiles[0], row.points)
        panels.draw_truth(tiles[1], row.truth, row.size)
        for column, method in enumerate(methods, start=2):
            values = row.maps.get(method)
            if values is None:
                panels.draw_none(tiles[column], row.size)
                continue
            heat = panels.draw_soft_map(tiles[column], values, row.size)
            _under(figure, grid, index, column, row.dice.get(method, np.nan))
        grid.caption(figure, index, row.case_id, None)
    grid.titles(figure, ["Image", "Truth", *methods.values()], size=palette.SMALL_SIZE)
    key(figure, grid.foot(0), point_handles())
    ignored = any((row.truth == IGNORED).any() for row in rows)
    key(figure, grid.foot(1, 2 if columns > 4 else None), truth_handles(ignored=ignored))
    if heat is not None:
        colour_bar(figure, grid.foot(columns - min(2, len(methods)), columns - 1), heat)
    return figure


def _under(figure: Figure, grid: Grid, row: int, column: int, dice: float) -> None:
    """Write the Dice of one panel, centred in the line of its row's caption."""
    if dice == dice:
        grid.note(figure, row, column, f"Dice {dice:.3f}")
