"""Find tissue on a slide: stained pixels of a small view, or the user's mask."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from cvm_monai.annotations import TARGET, rasterise_regions, read_annotations
from cvm_monai.annotations.geojson import unpacked
from cvm_monai.annotations.labels import UNCLASSIFIED, label_key, label_table
from cvm_monai.annotations.move import moved
from cvm_monai.annotations.outside import clip
from cvm_monai.errors import CvmError
from cvm_monai.files import read_json
from cvm_monai.knobs import Origin
from cvm_monai.slides.image import read_mask
from cvm_monai.slides.slide import SlideImage, corner

Decision = Literal["otsu", "all glass", "all tissue", "user"]
"""Origin of the mask: Otsu's threshold; the lower limit, because Otsu's split glass or tissue in itself; the user."""

COLOUR_LIMITS = (12.0, 30.0)
"""Limits of the colour threshold. Glass, with noise and shading, is below the first; stained tissue averaged over 8 um
is above the second, except its palest parts."""

GLASS = 15.0
"""If the pixels below Otsu's threshold have a higher mean colour than this, they are pale tissue, not glass."""

VIEW_PIXELS = (64, 4096)
"""Smallest (unless the image is smaller) and largest longer side of the small view, for any requested um/px."""

SMALLEST_PART = 0.1
"""Fraction of the image that caps the minimum area of tissue: in a small image nothing would be large enough."""

UNKNOWN_PIXELS = 2048
"""Largest longer side of the small view where the um/px is unknown."""


GEOJSON_SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".zip")

SHAPE_TOLERANCE = 0.02
"""Largest relative difference of a label image's scales in x and y, besides one pixel of rounding."""


@dataclass(frozen=True, eq=False)
class TissueMask:
    """A mask of tissue over a slide.

    Attributes:
        mask: (h, w) bool, over the whole slide.
        scale: (y, x) level-0 pixels per mask pixel.
        decided: how the threshold was chosen.
        threshold: of colour (largest minus smallest of R, G and B, 0 to 255), above which a pixel is tissue; None for
            a user's mask.
    """

    mask: np.ndarray
    scale: tuple[float, float]
    decided: Decision
    threshold: float | None = None

    @property
    def fraction(self) -> float:
        """The fraction of the slide that is tissue."""
        return float(self.mask.mean())

    def covers(self, x: ArrayLike, y: ArrayLike, width: ArrayLike, height: ArrayLike) -> np.ndarray:
        """Compute the fraction of rectangles that is tissue, in [0, 1], float64; outside the slide there is none.

        Args:
            x, y: upper left corners in level-0 pixels, numbers or arrays that broadcast together.
            width, height: in level-0 pixels, above 0.
        """
        left, top, width, height = (np.asarray(value, dtype=np.float64) for value in (x, y, width, height))
        (y0, y1), (x0, x1) = (top, top + height), (left, left + width)
        covered = self._below(y1, x1) - self._below(y0, x1) - self._below(y1, x0) + self._below(y0, x0)
        return np.clip(covered * (self.scale[0] * self.scale[1]) / (width * height), 0, 1)

    def _below(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Compute the tissue area, in mask pixels, above and left of level-0 positions, with fractions of pixels."""
        sums = self._sums
        row = np.clip(y / self.scale[0], 0, self.mask.shape[0])
        column = np.clip(x / self.scale[1], 0, self.mask.shape[1])
        r, c = (np.minimum(np.floor(a).astype(int), n - 1) for a, n in zip((row, column), self.mask.shape, strict=True))
        down, right = row - r, column - c
        upper = sums[r, c] * (1 - right) + sums[r, c + 1] * right
        lower = sums[r + 1, c] * (1 - right) + sums[r + 1, c + 1] * right
        return np.asarray(upper * (1 - down) + lower * down)

    @cached_property
    def _sums(self) -> np.ndarray:
        """(h + 1, w + 1) cumulative sums of the mask (integral image)."""
        sums = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1))
        sums[1:, 1:] = self.mask.cumsum(0, dtype=np.float64).cumsum(1)
        return sums


def tissue_mask(
    image: SlideImage,
    *,
    mpp: float = 8.0,
    min_area_um2: float = 10_000.0,
    max_hole_um2: float = 40_000.0,
    threshold: float | None = None,
) -> TissueMask:
    """Find tissue by its colour: largest minus smallest of R, G and B on a small, slightly blurred view.

    Glass, black borders and grey dust have no colour. The threshold is Otsu's, at most 30. If it is below 12 it splits
    glass, and if the mean colour below it is above 15 it splits tissue: then the threshold is 12, which leaves nothing
    of a slide that is all glass, and all but white gaps of one that is all tissue.

    Args:
        mpp: um/px of the view; raising it is faster and rounds the outline. From 2 to 32. If a slide's um/px is
            unknown, the view's longer side is at most 2048 px, and areas are computed as if it had ``mpp`` um/px.
        min_area_um2: tissue smaller than this, or than a tenth of the image where that is less, is removed as dirt;
            raising it loses small fragments. From 0; 10,000 um2 are 100 x 100 um.
        max_hole_um2: gaps smaller than this inside tissue are filled, such as lumina and fat; raising it includes more
            glass. From 0.
        threshold: colour threshold, 0 to 255, instead of Otsu's; raising it leaves out pale tissue.

    Raises:
        CvmError: a tunable out of its range, or a slide that cannot be read.

    Example:
        >>> import cvm_monai as cvm
        >>> with cvm.open_image("data/phantom/images/case_000.png", mpp=0.5) as slide:
        ...     tissue = cvm.tissue_mask(slide, mpp=2.0)
        >>> float(tissue.covers(0, 0, 64, 64))
        1.0
    """
    for name, value in (("min_area_um2", min_area_um2), ("max_hole_um2", max_hole_um2)):
        if not value >= 0:
            raise CvmError(f"{name} must be 0 or more um2, got {value!r}")
    if not (math.isfinite(mpp) and mpp > 0):
        raise CvmError(f"the um/px of the tissue mask must be a positive number, got {mpp!r}")
    height, width = view_shape(image, mpp)
    scale = image.shape[0] / height, image.shape[1] / width
    colour = colourfulness(image.read_scaled((0, 0), shape=(height, width), scale=scale))
    decided: Decision = "user"
    if threshold is None:
        threshold, decided = choose_threshold(colour)
    pixel_um2 = mpp**2 if image.mpp.value is None else scale[0] * scale[1] * image.mpp.value**2
    min_area = min(min_area_um2 / pixel_um2, SMALLEST_PART * height * width)
    mask = clean(colour > threshold, min_area=min_area, max_hole=max_hole_um2 / pixel_um2)
    return TissueMask(mask, scale, decided, threshold)


def colourfulness(rgb: np.ndarray) -> np.ndarray:
    """Compute largest minus smallest channel of (H, W, 3), smoothed by a Gaussian of 1 px: (H, W) float32, 0 to 255."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(rgb.astype(np.float32), (1, 1, 0), mode="nearest")  # channel noise would look like colour
    return np.asarray(smooth.max(2) - smooth.min(2))


def choose_threshold(colour: np.ndarray) -> tuple[float, Decision]:
    """Choose the threshold for (H, W) colourfulness, and say how; see `tissue_mask`."""
    from skimage.filters import threshold_otsu

    counts, edges = np.histogram(colour, bins=256, range=(0, 256))
    found = float(threshold_otsu(hist=(counts, edges[:-1] + 0.5))) if np.count_nonzero(counts) > 1 else colour.max()
    low, high = COLOUR_LIMITS
    if found < low:
        return low, "all glass"
    if _pale(colour, found) > GLASS:
        return low, "all tissue"
    return min(found, high), "otsu"


def clean(mask: np.ndarray, *, min_area: float, max_hole: float) -> np.ndarray:
    """Fill holes of up to ``max_hole`` pixels, then remove components below ``min_area`` pixels, (H, W) bool.

    Components are 8-connected, holes 4-connected; a gap at the border of the image is not a hole.
    """
    from scipy.ndimage import label

    gaps, _ = label(~mask)
    area = np.bincount(gaps.ravel()).astype(np.float64)
    area[np.unique(np.concatenate([gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]]))] = np.inf
    area[0] = np.inf
    mask = mask | (area <= max_hole)[gaps]
    pieces, _ = label(mask, np.ones((3, 3)))
    kept = np.bincount(pieces.ravel()) >= min_area
    kept[0] = False
    return np.asarray(kept[pieces])


def _pale(colour: np.ndarray, threshold: float) -> float:
    """Compute the mean colour of the pixels below a threshold."""
    below = colour[colour <= threshold]
    return float(below.mean()) if below.size else 0.0


def view_shape(image: SlideImage, mpp: float) -> tuple[int, int]:
    """Compute (height, width) of the small view."""
    longest = max(image.shape)
    wanted = UNKNOWN_PIXELS if image.mpp.value is None else longest * image.mpp.value / mpp
    factor = longest / min(max(wanted, VIEW_PIXELS[0]), VIEW_PIXELS[1], longest)
    height, width = (max(1, round(side / factor)) for side in image.shape)
    return height, width


def read_tissue_mask(path: str | Path, image: SlideImage, *, mpp: float = 8.0, origin: Origin = "level0") -> TissueMask:
    """Read the tissue mask that the user drew for a slide.

    In GeoJSON regions of every class are tissue, except ``background`` and ``exclusion``, which are subtracted from the
    others. A label image may have any size but must show the whole slide: 0 is glass, anything else tissue.

    Args:
        mpp: um/px at which regions are rasterised, as in `tissue_mask`; raising it rounds their outline.
        origin: origin of the regions' coordinates.

    Raises:
        CvmError: a file that cannot be read, without any region, with none inside the slide, or of another shape; or
            an unknown origin.
    """
    path = Path(path)
    if path.name.lower().endswith(GEOJSON_SUFFIXES):
        return _from_regions(path, image, mpp, corner(image, origin))
    labels = read_mask(path)
    scale = image.shape[0] / labels.shape[0], image.shape[1] / labels.shape[1]
    slack = SHAPE_TOLERANCE + 1 / min(labels.shape)
    if abs(scale[0] - scale[1]) > slack * max(scale):
        raise CvmError(
            f"{path}: a mask of {labels.shape[1]} x {labels.shape[0]} px does not have the shape of {image.path}, "
            f"{image.shape[1]} x {image.shape[0]} px; it must show the whole slide"
        )
    return TissueMask(labels != 0, scale, "user")


def _from_regions(path: Path, image: SlideImage, mpp: float, counted_from: tuple[int, int]) -> TissueMask:
    """Rasterise regions on the small view that `tissue_mask` uses."""
    named = {label_key(name) for name in _names(read_json(path))} - set(label_table()) - {UNCLASSIFIED}
    classes = dict.fromkeys([*sorted(named), UNCLASSIFIED], "target")
    found = moved(read_annotations(path, classes=classes), *counted_from)
    regions = clip(found, image.shape, source=path, image=image.path).regions
    if not any(region.label == TARGET for region in regions):
        raise CvmError(f"{path} has no region that could be tissue; draw polygons around it")
    height, width = view_shape(image, mpp)
    drawn = rasterise_regions(regions, image_shape=image.shape, map_shape=(height, width))
    scale = image.shape[0] / height, image.shape[1] / width
    return TissueMask(np.asarray(drawn == TARGET), scale, "user")


def _names(data: Any) -> set[str]:
    """Collect every text that may be an object's class in a document of GeoJSON or of the Digital Slide Archive."""
    if isinstance(data, list):
        return {name for item in data for name in _names(item)}
    if not isinstance(data, dict):
        return set()
    data = {key: unpacked(value) for key, value in data.items() if key != "geometry"}
    found = {name for value in data.values() for name in _names(value)}
    label = data.get("label")
    texts = [data.get(key) for key in ("label", "group", "classification", "name")]
    for text in [*texts, label.get("value") if isinstance(label, dict) else None]:
        if isinstance(text, str | int):
            found.add(str(text).strip())
    if isinstance(data.get("names"), list):
        found.add(": ".join(map(str, data["names"])).strip())
    return found - {""}
