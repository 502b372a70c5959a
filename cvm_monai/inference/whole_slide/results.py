"""Write the results of a finished map strip by strip: a pyramid, regions, a table, an overlay."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.annotations import regions_from_rows, write_region_table, write_results_geojson
from cvm_monai.figures import save_figure, slide_overlay
from cvm_monai.inference.whole_slide.grid import TissueOnGrid
from cvm_monai.inference.whole_slide.map_file import MapFile, foreground, labels, strips
from cvm_monai.knobs import SLIDE_DEFAULTS, SLIDES
from cvm_monai.slides import SlideImage, TissueMask, require_mpp, write_pyramid

PROBABILITY, REGIONS, TISSUE = "probability.ome.tif", "regions.geojson", "tissue.geojson"
TABLE, OVERLAY = "classes.csv", "overlay.png"

OVERLAY_SIDE = 1024
SPECK = 16
"""Smallest area in overlay pixels of a region that is outlined there; smaller ones would be hidden by their outline."""


@dataclass(frozen=True)
class ResultOptions:
    """Options of the results made from the map.

    Attributes:
        min_area_um2: smaller regions are left out; from 0.
        simplify_um: tolerance of the simplification of borders, in um; raising it makes smaller files. 0 keeps each
            pixel; otherwise about 1 to 4 times the network's um/px.
        class_probabilities: for more than two classes, also write a pyramid of each foreground class.

    Raises:
        CvmError: a number out of range.
    """

    min_area_um2: float = SLIDE_DEFAULTS["min_area_um2"]
    simplify_um: float = SLIDE_DEFAULTS["simplify_um"]
    class_probabilities: bool = False

    def __post_init__(self) -> None:
        for name in ("min_area_um2", "simplify_um", "class_probabilities"):
            SLIDES[name].check(getattr(self, name))


@dataclass(frozen=True)
class SlideMap:
    """A finished map with its slide, tissue, classes and origin.

    Attributes:
        image: the slide.
        mask: of its tissue; None: all is tissue.
        tissue: the mask on the grid of the tiles.
        store: the map.
        stride: network pixels per map pixel along a side.
        names: of the classes, background first.
        corner: (x, y) in level-0 pixels that coordinates in files count from.
    """

    image: SlideImage
    mask: TissueMask | None
    tissue: TissueOnGrid
    store: MapFile
    stride: int
    names: tuple[str, ...]
    corner: tuple[int, int] = (0, 0)

    @property
    def origin(self) -> tuple[float, float]:
        """(y, x) of level 0's corner in the coordinates of files."""
        return (-float(self.corner[1]), -float(self.corner[0]))

    def strips(self) -> Iterator[tuple[int, np.ndarray]]:
        """Iterate over the map's strips, see `strips`."""
        return strips(self.store, self.tissue, stride=self.stride)

    @property
    def tissue_um2(self) -> float:
        """Area of the tissue."""
        height, width = self.image.shape
        return height * width * require_mpp(self.image) ** 2 * (1.0 if self.mask is None else self.mask.fraction)


def write_results(found: SlideMap, folder: Path, *, options: ResultOptions) -> dict[str, Any]:
    """Write all files of a slide into its folder; returns their entries of `run.json`.

    `probability.ome.tif` is the foreground's probability at the network's um/px (255 is 1; 0 outside the tissue),
    `regions.geojson` the regions of the most probable class in level-0 pixels, `classes.csv` their areas,
    `tissue.geojson` the predicted tissue, `overlay.png` an overview. The two GeoJSON files count from `found.corner`.
    """
    mpp, scale = require_mpp(found.image), found.tissue.grid.scale
    files = _write_pyramids(found, folder, mpp=mpp * scale, options=options)
    _write_tissue(found, folder / TISSUE, mpp)
    regions = regions_from_rows(
        ((first, *labels(values)) for first, values in found.strips()),
        mpp=mpp,
        scale=(scale, scale),
        origin=found.origin,
        simplify_um=options.simplify_um,
        min_area_um2=options.min_area_um2,
        folder=folder,
    )
    with closing(regions):
        totals = write_results_geojson(folder / REGIONS, regions, names=found.names)
    tissue_um2 = found.tissue_um2
    write_region_table(folder / TABLE, totals, names=found.names, tissue_um2=tissue_um2 or None)
    _write_overlay(found, folder / OVERLAY, mpp, min_area_um2=options.min_area_um2)
    return {
        "files": [*files, REGIONS, TISSUE, TABLE, OVERLAY],
        "tissue_um2": round(tissue_um2, 2),
        "classes": {found.names[label]: asdict(total) for label, total in totals.items()},
    }


def _write_pyramids(found: SlideMap, folder: Path, *, mpp: float, options: ResultOptions) -> list[str]:
    """Write the pyramid of the foreground, and of each class where requested; returns their names."""
    wanted = {PROBABILITY: foreground}
    if options.class_probabilities and len(found.names) > 2:
        for number in range(1, len(found.names)):
            wanted[PROBABILITY.replace(".", f"_{number}.", 1)] = partial(_channel, number=number - 1)
    for name, chosen in wanted.items():
        rows = (chosen(values) for _, values in found.strips())
        write_pyramid(folder / name, found.tissue.grid.shape, rows, mpp=mpp)
    return list(wanted)


def _channel(values: np.ndarray, *, number: int) -> np.ndarray:
    return values[:, number]


def _write_tissue(found: SlideMap, path: Path, mpp: float) -> None:
    """Write the polygons of the mask; without a mask, one rectangle."""
    mask, scale = np.ones((1, 1), np.uint8), (float(found.image.shape[0]), float(found.image.shape[1]))
    if found.mask is not None:
        mask, scale = found.mask.mask.astype(np.uint8), found.mask.scale
    regions = regions_from_rows([(0, mask)], mpp=mpp, scale=scale, origin=found.origin)
    write_results_geojson(path, regions, names=("background", "tissue"))


def _write_overlay(found: SlideMap, path: Path, mpp: float, *, min_area_um2: float) -> None:
    """Write the probability in colour over the slide, with the outlines of regions that are large enough."""
    means = small_map(found, OVERLAY_SIDE)
    thumbnail = found.image.thumbnail(OVERLAY_SIDE)
    height, width = found.image.shape
    pixel_um2 = (height * width * mpp**2) / (means.shape[0] * means.shape[2])
    figure = slide_overlay(
        thumbnail,
        foreground(means),
        title=f"{found.image.path.name}, {width} x {height} px, {mpp:.3g} um/px",
        mpp=mpp * width / thumbnail.shape[1],
        labels=without_specks(labels(means)[0], least=max(SPECK, min_area_um2 / pixel_um2)),
        names=found.names,
    )
    save_figure(figure, path)


def small_map(found: SlideMap, side: int) -> np.ndarray:
    """Reduce the probabilities to block means, (h, channels, w) uint8, with a longer side of at most `side` px."""
    height, width = found.tissue.grid.shape
    factor = -(-max(height, width) // side)
    parts = []
    for _, values in strips(found.store, found.tissue, stride=found.stride, height=factor * max(1, 256 // factor)):
        padded = np.pad(values, [(0, -len(values) % factor), (0, 0), (0, -width % factor)], mode="edge")
        blocks = padded.reshape(-1, factor, values.shape[1], padded.shape[2] // factor, factor)
        parts.append(np.rint(blocks.mean((1, 4), dtype=np.float32)).astype(np.uint8))
    return np.concatenate(parts)


def without_specks(label_map: np.ndarray, *, least: float) -> np.ndarray:
    """Remove regions of less than `least` pixels from the label map (h, w)."""
    from scipy.ndimage import label

    kept = np.zeros_like(label_map)
    for value in np.unique(label_map[label_map > 0]):
        pieces, _ = label(label_map == value)
        large = np.bincount(pieces.ravel()) >= least
        large[0] = False
        kept[large[pieces]] = value
    return kept
