"""Overview of a slide: probability over its thumbnail, outlines of the regions found, scale bar, colour bar."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cvm_monai.errors import CvmError
from cvm_monai.figures import palette, panels
from cvm_monai.figures.keys import colour_bar, key
from cvm_monai.figures.layout import CAPTION, FOOT, Grid
from cvm_monai.figures.scale_bar import scale_bar
from cvm_monai.metrics import IGNORED

WIDTH = 6.0
"""Width of the image, in inches."""

BAR = 0.3
"""Maximum length of the scale bar, as a fraction of the width."""

OPAQUE_FROM = 0.5
"""Probability from which the overlay has its full opacity; below, it fades to transparent at 0."""

CLASS_LINES = (palette.VERMILION, palette.GREEN, palette.PURPLE, palette.ORANGE, palette.SKY, palette.YELLOW)
"""Outline colours of classes 1, 2, ... in order, as of exported regions."""


def slide_overlay(
    thumbnail: np.ndarray,
    probability: np.ndarray,
    *,
    title: str = "",
    mpp: float | None = None,
    labels: np.ndarray | None = None,
    names: Sequence[str] = ("background", "target"),
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    opacity: float = 0.45,
) -> Figure:
    """Draw the probability in colour over a thumbnail; write the figure with `save_figure`.

    Maps may differ in size from the thumbnail, but cover its whole field; the figure shows 1024 px at most.

    Args:
        thumbnail: (H, W, 3) uint8 RGB.
        probability: (h, w), floating in [0, 1] or uint8 with 255 as 1; where it is NaN or masked nothing is drawn.
        title: the slide's name.
        mpp: micrometres per pixel of the thumbnail; None: no scale bar.
        labels: (h, w) class indices, whose regions are outlined: every class but 0 and 255; None draws none.
        names: of the classes, for the key.
        colours: RGB of the outlines by class; None, or a class that it lacks: a fixed palette.
        opacity: of the overlay from a probability of 0.5 up; raising it hides more of the tissue. Between 0 and 1.

    Raises:
        CvmError: invalid arrays, an opacity out of its range, or an mpp that is not above 0.
    """
    _check(thumbnail, probability, labels, mpp=mpp, opacity=opacity)
    height, width = thumbnail.shape[:2]
    size = (width, height)
    grid = Grid([size], columns=1, tile=WIDTH)
    figure = Figure(figsize=grid.size, dpi=palette.DPI, facecolor="white")
    FigureCanvasAgg(figure)
    box = grid.tile(0, 0, size)
    axes = figure.add_axes(box)
    panels.draw_image(axes, thumbnail)
    heat = panels.draw_soft_map(axes, _unit(probability), size, colours=_glaze(opacity))
    grid.titles(figure, [title])
    handles = _outlines(axes, labels, size, names=names, colours=colours or {})
    left, bottom, across, high = grid.foot(0)
    if handles:
        key(figure, (left, FOOT / grid.size[1], across, CAPTION / grid.size[1]), handles)
    if mpp is not None:
        um_per_inch = width * mpp / (box[2] * grid.size[0])
        scale_bar(figure, (left, bottom, BAR * across, high), um_per_inch=um_per_inch)
    colour_bar(figure, (left + across / 2, bottom, across / 2, high), heat)
    return figure


def _outlines(
    axes: Axes,
    labels: np.ndarray | None,
    size: tuple[int, int],
    *,
    names: Sequence[str],
    colours: Mapping[int, tuple[int, int, int]],
) -> list[Line2D]:
    """Draw the borders of each class that occurs; returns their legend handles."""
    handles = []
    for label in [] if labels is None else np.unique(labels).tolist():
        if label in (0, IGNORED):
            continue
        colour = CLASS_LINES[(label - 1) % len(CLASS_LINES)]
        if label in colours:
            colour = "#{:02x}{:02x}{:02x}".format(*colours[label])
        panels.draw_outline(axes, labels == label, size, colour)
        name = names[label] if label < len(names) else f"class {label}"
        handles.append(Line2D([], [], color=colour, linewidth=1.4, label=name))
    return handles


def _unit(probability: np.ndarray) -> np.ndarray:
    """Convert to [0, 1], NaN where it is masked."""
    if probability.dtype == np.uint8:
        return np.ma.filled(probability.astype(np.float32) / 255, np.nan)
    return np.ma.filled(probability.astype(np.float32), np.nan)


def _glaze(opacity: float) -> Colormap:
    """Colour map of the heat map, transparent at 0 and of full opacity from `OPAQUE_FROM`."""
    values = np.linspace(0, 1, 256)
    colours = colormaps[palette.HEAT_MAP](values)
    colours[:, 3] = opacity * np.minimum(values / OPAQUE_FROM, 1)
    return ListedColormap(colours).with_extremes(bad=(0, 0, 0, 0))


def _check(
    thumbnail: np.ndarray, probability: np.ndarray, labels: np.ndarray | None, *, mpp: float | None, opacity: float
) -> None:
    """Check the arguments of `slide_overlay`."""
    if thumbnail.ndim != 3 or thumbnail.shape[2] != 3 or thumbnail.dtype != np.uint8 or not thumbnail.size:
        raise CvmError(f"the thumbnail is {thumbnail.dtype} of shape {thumbnail.shape}: give uint8 (H, W, 3)")
    for name, array in (("probability", probability), ("labels", labels)):
        if array is not None and (array.ndim != 2 or not array.size):
            raise CvmError(f"{name} has shape {array.shape}: give (H, W)")
    if not 0 <= opacity <= 1:
        raise CvmError(f"opacity must be between 0 and 1, got {opacity!r}")
    if mpp is not None and not 0 < mpp < np.inf:
        raise CvmError(f"mpp must be above 0 micrometres per pixel, or None, got {mpp!r}")
