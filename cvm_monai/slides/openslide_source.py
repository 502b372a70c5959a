"""Read slides with OpenSlide: SVS, NDPI, MRXS, SCN, CZI, DICOM, generic tiled pyramids, ..."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cvm_monai.slides.bounds import read_bounds
from cvm_monai.slides.image import over_white


class OpenSlideSource:
    """A slide opened with OpenSlide. Label and macro images are not read.

    OpenSlide takes the corner of a region in whole level-0 pixels: of a level whose downsample is not an integer a
    block may be off by up to half a level-0 pixel (``exact`` is false).
    """

    forks = False
    warnings: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        import openslide

        self._slide = openslide.OpenSlide(path)
        self.vendor: str = self._slide.properties.get("openslide.vendor", "")
        self.sizes = [(height, width) for width, height in self._slide.level_dimensions]
        self.mpp = _mpp(self._slide.properties)
        self.bounds = read_bounds(self._slide.properties, self.sizes[0])
        self._downsamples = self._slide.level_downsamples
        self.exact = all(factor.is_integer() for factor in self._downsamples)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        factor = self._downsamples[level]
        region = self._slide.read_region((round(x * factor), round(y * factor)), level, (width, height))
        rgba = np.asarray(region)
        return over_white(rgba[..., :3], rgba[..., 3:])

    def close(self) -> None:
        self._slide.close()


def _mpp(properties: Mapping[str, str]) -> tuple[float, float] | None:
    """Read um/px (x, y) from the properties; None where they are missing."""
    try:
        return float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"])
    except (KeyError, ValueError):
        return None
