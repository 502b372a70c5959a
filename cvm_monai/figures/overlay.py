"""Figure of one case in four large panels."""

from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cvm_monai.errors import CvmError
from cvm_monai.figures import palette, panels
from cvm_monai.figures.keys import colour_bar, key, point_handles
from cvm_monai.figures.layout import Grid
from cvm_monai.figures.row import FigureRow
from cvm_monai.metrics import IGNORED

SoftMap = Literal["probability", "pseudo_label"]
"""The map that `draw_case` shows."""

NAMES: dict[SoftMap, str] = {"probability": "Network probability", "pseudo_label": "Pseudo-label u"}
OUTLINED: dict[SoftMap, str] = {"probability": "prediction", "pseudo_label": "pseudo-label"}


def draw_case(row: FigureRow, *, soft: SoftMap = "probability", threshold: float = 0.5) -> Figure:
    """Draw four panels: image with points, ground truth outline, soft map, and its outline at a threshold.

    The row's Dice is that of the probability, and is shown with it only.

    Args:
        row: the case.
        soft: the map shown, the network's probability or the pseudo-label u.
        threshold: of the outline; raising it draws less; between 0 and 1.

    Raises:
        CvmError: the case has no such map.
    """
    values = row.probability if soft == "probability" else row.pseudo_label
    if values is None:
        raise CvmError(f"case {row.case_id} has no pseudo-label to draw: choose soft='probability'")
    grid = Grid([row.size], columns=4, tile=2.3)
    figure = Figure(figsize=grid.size, dpi=palette.DPI, facecolor="white")
    FigureCanvasAgg(figure)
    tiles = [figure.add_axes(grid.tile(0, column, row.size)) for column in range(4)]
    grid.titles(figure, ["Image and points", "Ground truth", NAMES[soft], f"Outline at {threshold:g}"])
    grid.caption(figure, 0, row.case_id, row.dice if soft == "probability" else None)
    panels.draw_image(tiles[0], row.image)
    panels.draw_points(tiles[0], row.points)
    outlines = _draw_truth(tiles[1], row)
    heat = panels.draw_soft_map(tiles[2], values, row.size)
    panels.draw_image(tiles[3], row.image)
    panels.draw_outline(tiles[3], values > threshold, row.size, palette.PREDICTION_OUTLINE)
    key(figure, grid.foot(0), point_handles())
    key(figure, grid.foot(1), outlines)
    colour_bar(figure, grid.foot(2), heat)
    key(figure, grid.foot(3), [_line(OUTLINED[soft], palette.PREDICTION_OUTLINE)])
    return figure


def _draw_truth(axes: Axes, row: FigureRow) -> list[Line2D]:
    """Draw the outlines of the truth and its ignored pixels over the image; returns their legend handles."""
    if row.truth is None:
        panels.draw_none(axes, row.size)
        return []
    panels.draw_image(axes, row.image)
    handles = [_line("truth", palette.TRUTH_OUTLINE)]
    if (row.truth == IGNORED).any():
        panels.draw_outline(axes, row.truth == IGNORED, row.size, palette.IGNORED_OUTLINE)
        handles.append(_line("ignored", palette.IGNORED_OUTLINE))
    panels.draw_outline(axes, row.truth == 1, row.size, palette.TRUTH_OUTLINE)
    return handles


def _line(name: str, colour: str) -> Line2D:
    return Line2D([], [], color=colour, linewidth=1.4, label=name)
