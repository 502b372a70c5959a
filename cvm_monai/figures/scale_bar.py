"""Draw a scale bar of a round length in micrometres."""

import math
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cvm_monai.figures import palette
from cvm_monai.figures.layout import Box

THICKNESS = 0.035
"""Height of the bar, in inches."""


def round_length(longest: float) -> float:
    """Largest of 1, 2, 5, 10, 20, 50, ... (and 0.5, 0.2, ...) that is not above `longest` > 0."""
    power = 10.0 ** math.floor(math.log10(longest))
    return next(step * power for step in (10, 5, 2, 1) if step * power <= longest * (1 + 1e-9))


def length_name(micrometres: float) -> str:
    """Format a length as ``200 µm``, or as ``2 mm`` from 1000 micrometres."""
    return f"{micrometres / 1000:g} mm" if micrometres >= 1000 else f"{micrometres:g} µm"


def scale_bar(figure: Figure, box: Box, *, um_per_inch: float) -> float:
    """Draw a bar of a round length at the left of a box, its length below it; returns the length in micrometres.

    Args:
        box: left, bottom, width, height as fractions of the figure; the bar takes 40 % to 100 % of its width.
        um_per_inch: micrometres per inch of the figure.
    """
    left, bottom, width, height = box
    inches = figure.get_size_inches()
    length = round_length(width * inches[0] * um_per_inch)
    span = length / um_per_inch / inches[0]
    thickness = THICKNESS / inches[1]
    bar = Rectangle(
        (left, bottom + 0.62 * height),
        span,
        thickness,
        transform=figure.transFigure,
        facecolor=palette.INK,
        edgecolor="none",
        snap=True,
    )
    figure.add_artist(bar)
    middle, below = left + span / 2, bottom + 0.52 * height
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": palette.SMALL_SIZE, "color": palette.INK}
    figure.text(middle, below, length_name(length), **style)
    return length
