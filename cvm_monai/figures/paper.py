"""Figure of several cases, one row each, in the style of the paper's Figure 4."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cvm_monai.errors import CvmError
from cvm_monai.figures import palette, panels
from cvm_monai.figures.keys import colour_bar, error_handles, key, point_handles, truth_handles
from cvm_monai.figures.layout import Grid
from cvm_monai.figures.row import FigureRow
from cvm_monai.metrics import IGNORED

TITLES = ("Image and points", "Ground truth", "Pseudo-label u", "Network probability", "Errors")


def paper_figure(rows: Sequence[FigureRow], *, threshold: float = 0.5) -> Figure:
    """Draw image with points, ground truth, pseudo-label u, probability and errors of the prediction, one row per case.

    Each row has its case's name and Dice under it; a panel without data is a grey tile. Non-square images keep their
    shape; one taller than 1.5 times its width is fitted into a tile of that height.

    Args:
        rows: the cases, from top to bottom; six fill a page.
        threshold: of the prediction; raising it predicts less; between 0 and 1.

    Raises:
        CvmError: no row.
    """
    if not rows:
        raise CvmError("there is no case to draw: give at least one row")
    grid = Grid([row.size for row in rows], columns=len(TITLES), tile=1.75)
    figure = Figure(figsize=grid.size, dpi=palette.DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for index, row in enumerate(rows):
        tiles = [figure.add_axes(grid.tile(index, column, row.size)) for column in range(len(TITLES))]
        heat = _draw_row(tiles, row, threshold)
        grid.caption(figure, index, row.case_id, row.dice)
    grid.titles(figure, TITLES)
    key(figure, grid.foot(0), point_handles())
    ignored = any(row.truth is not None and (row.truth == IGNORED).any() for row in rows)
    key(figure, grid.foot(1), truth_handles(ignored=ignored))
    colour_bar(figure, grid.foot(2, 3), heat)
    key(figure, grid.foot(4), error_handles())
    return figure


def _draw_row(tiles: Sequence[Axes], row: FigureRow, threshold: float) -> AxesImage:
    """Fill the five tiles; returns the probability's heat map."""
    panels.draw_image(tiles[0], row.image)
    panels.draw_points(tiles[0], row.points)
    if row.truth is None:
        panels.draw_none(tiles[1], row.size)
        panels.draw_none(tiles[4], row.size)
    else:
        panels.draw_truth(tiles[1], row.truth, row.size)
        panels.draw_errors(tiles[4], row.image, row.truth, row.probability > threshold)
    if row.pseudo_label is None:
        panels.draw_none(tiles[2], row.size)
    else:
        panels.draw_soft_map(tiles[2], row.pseudo_label, row.size)
    return panels.draw_soft_map(tiles[3], row.probability, row.size)
