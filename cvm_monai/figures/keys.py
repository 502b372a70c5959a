"""Legends below a grid of panels: markers, colours, and the colour bar."""

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.typing import ColorType

from cvm_monai.figures import palette
from cvm_monai.figures.layout import Box
from cvm_monai.figures.panels import POINT_STYLES


def point_handles() -> list[Artist]:
    """Create one marker for each kind of point."""
    return [Line2D([], [], label=name, **POINT_STYLES[label]) for label, name in ((1, "target"), (0, "background"))]


def error_handles() -> list[Artist]:
    """Create one swatch for each colour of `draw_errors`: true positives, false positives, false negatives."""
    named = (("TP", palette.TRUE_POSITIVE), ("FP", palette.FALSE_POSITIVE), ("FN", palette.FALSE_NEGATIVE))
    return [_swatch(name, colour) for name, colour in named]


def truth_handles(*, ignored: bool) -> list[Artist]:
    """Create one swatch for each class of `draw_truth`; `ignored` adds that of ignored pixels."""
    heat_map = colormaps[palette.HEAT_MAP]
    named: list[tuple[str, ColorType]] = [
        ("target", heat_map(1.0)),
        ("background", heat_map(0.0)),
        ("ignored", palette.IGNORED_PIXELS),
    ]
    return [_swatch(name, colour) for name, colour in (named if ignored else named[:2])]


def key(figure: Figure, box: Box, handles: Sequence[Artist]) -> None:
    """Draw legend handles in one line, centred in a box."""
    left, bottom, width, height = box
    figure.legend(
        handles=list(handles),
        loc="center",
        bbox_to_anchor=(left + width / 2, bottom + height / 2),
        ncols=len(handles),
        frameon=False,
        fontsize=palette.SMALL_SIZE,
        labelcolor=palette.INK,
        handletextpad=0.4,
        handlelength=1.1,
        columnspacing=1.0,
        borderpad=0,
    )


def colour_bar(figure: Figure, box: Box, heat: AxesImage) -> None:
    """Draw a thin horizontal colour bar from 0 to 1, centred in a box."""
    left, bottom, width, height = box
    axes = figure.add_axes((left + 0.1 * width, bottom + 0.56 * height, 0.8 * width, 0.2 * height))
    bar = figure.colorbar(heat, cax=axes, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.ax.set_xticklabels(["0", "0.5", "1"])
    bar.ax.tick_params(length=2, width=0.5, pad=1.5, labelsize=palette.SMALL_SIZE, colors=palette.INK)
    bar.outline.set_visible(False)


def _swatch(name: str, colour: ColorType) -> Patch:
    return Patch(facecolor=colour, edgecolor=palette.MUTED, linewidth=0.4, label=name)
