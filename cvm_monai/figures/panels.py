"""Draw the contents of one panel: image, points, soft map, outline, errors, or an empty tile.

The axes of all panels are in the image's pixels: pixel (r, c) covers [c, c+1) x [r, r+1), y downwards.
"""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_rgb
from matplotlib.image import AxesImage
from matplotlib.patheffects import Normal, withStroke
from PIL import Image

from cvm_monai.figures import palette
from cvm_monai.metrics import IGNORED

LONGEST_SIDE = 1024
"""Maximum number of pixels per side of a panel; larger arrays are reduced before they are drawn."""

TINT = 0.62
"""Weight of the colour over the grey image in `draw_errors`."""


def open_panel(axes: Axes, size: tuple[int, int]) -> None:
    """Prepare axes for an image of (width, height): no ticks, no frame, square pixels."""
    width, height = size
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_image(axes: Axes, image: np.ndarray) -> None:
    """Draw the image, (H, W, 3) uint8, which defines the panel's coordinates."""
    height, width = image.shape[:2]
    open_panel(axes, (width, height))
    axes.imshow(_reduced(image), extent=(0, width, height, 0), interpolation="antialiased")


def draw_points(axes: Axes, points: np.ndarray) -> None:
    """Draw points, (N, 3) x, y, label: circles in the target, squares in the background, white edges."""
    for label, style in POINT_STYLES.items():
        chosen = points[points[:, 2] == label]
        axes.plot(chosen[:, 0], chosen[:, 1], **style)


POINT_STYLES: dict[int, dict[str, Any]] = {
    label: {
        "marker": marker,
        "color": colour,
        "markersize": size,
        "markeredgecolor": "white",
        "markeredgewidth": 0.9,
        "linestyle": "none",
    }
    for label, marker, colour, size in (
        (0, "s", palette.BACKGROUND_POINT, 5.2),
        (1, "o", palette.TARGET_POINT, 6.2),
    )
}
"""Marker style of each label, here and in legends."""


def draw_soft_map(
    axes: Axes, values: np.ndarray, size: tuple[int, int], *, colours: Colormap | None = None
) -> AxesImage:
    """Draw (h, w) in [0, 1] as a heat map over an image of (width, height); masked pixels grey, or as in `colours`."""
    open_panel(axes, size)
    extent, colours = (0, size[0], size[1], 0), colours or _heat_map()
    return axes.imshow(_reduced(values), extent=extent, cmap=colours, vmin=0, vmax=1, interpolation="nearest")


def draw_truth(axes: Axes, truth: np.ndarray, size: tuple[int, int]) -> None:
    """Draw (h, w) {0, 1, 255} in the end colours of the heat map; ignored pixels are grey."""
    draw_soft_map(axes, np.ma.masked_equal(_strided(truth), IGNORED), size)


def draw_outline(axes: Axes, mask: np.ndarray, size: tuple[int, int], colour: str) -> None:
    """Draw the border of a (h, w) mask over an image of (width, height): a line with a white halo."""
    mask = _strided(np.asarray(mask, dtype=np.float32))
    if mask.min() == mask.max():
        return
    (height, width), padded = mask.shape, np.pad(mask, 1)
    x, y = (np.arange(-1, n + 1) + 0.5 for n in (width, height))
    lines = axes.contour(x * size[0] / width, y * size[1] / height, padded, levels=[0.5], colors=colour, linewidths=1.1)
    lines.set_path_effects([withStroke(linewidth=2.4, foreground="white"), Normal()])


def draw_errors(axes: Axes, image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> None:
    """Draw true positives, false positives and false negatives in colour over the grey image; ignored stay grey."""
    height, width = image.shape[:2]
    open_panel(axes, (width, height))
    truth, predicted = _strided(truth), _strided(predicted)
    rows, columns = truth.shape
    grey = np.asarray(Image.fromarray(image).convert("L").resize((columns, rows), Image.Resampling.BOX), np.float64)
    canvas = np.repeat(0.35 + 0.65 * grey[..., None] / 255, 3, axis=2)
    target, known = truth == 1, truth != IGNORED
    for chosen, colour in (
        (predicted & target, palette.TRUE_POSITIVE),
        (predicted & known & ~target, palette.FALSE_POSITIVE),
        (~predicted & target, palette.FALSE_NEGATIVE),
    ):
        canvas[chosen] = (1 - TINT) * canvas[chosen] + TINT * np.array(to_rgb(colour))
    axes.imshow(canvas, extent=(0, width, height, 0), interpolation="nearest")


def draw_none(axes: Axes, size: tuple[int, int]) -> None:
    """Draw a grey tile with a note that there is nothing to show."""
    open_panel(axes, size)
    axes.set_facecolor(palette.TILE)
    middle = (size[0] / 2, size[1] / 2)
    axes.text(*middle, "none", ha="center", va="center", fontsize=palette.TEXT_SIZE, color=palette.MUTED)


def _heat_map() -> Colormap:
    return colormaps[palette.HEAT_MAP].with_extremes(bad=palette.IGNORED_PIXELS)


def _factor(array: np.ndarray) -> int:
    return -(-max(array.shape[:2]) // LONGEST_SIDE)


def _reduced(array: np.ndarray) -> np.ndarray:
    """Reduce by block means, for colours and soft maps."""
    factor = _factor(array)
    if factor == 1:
        return array
    values = array if array.dtype == np.uint8 else array.astype(np.float32)
    return np.asarray(Image.fromarray(values).reduce(factor))


def _strided(array: np.ndarray) -> np.ndarray:
    """Reduce by taking every n-th pixel, for classes."""
    factor = _factor(array)
    return array[factor // 2 :: factor, factor // 2 :: factor]
