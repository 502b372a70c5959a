"""Small pyramids written by tifffile directly, so that reading is not tested against our own writer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile


def block_means(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Means of factor x factor blocks, float; what does not fill a block is left out."""
    height, width = (side // factor for side in pixels.shape[:2])
    whole = pixels[: height * factor, : width * factor].astype(float)
    return whole.reshape(height, factor, width, factor, 3).mean((1, 3))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8 without any symmetry: noise over a slope."""
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    slope = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.array([0.1, 0.2, 0.05])
    return ((noise + slope) % 256).astype(np.uint8)


def save_pyramid(
    path: Path, pixels: np.ndarray, *, levels: int = 3, ome: bool = False, mpp: float | None = 0.25
) -> Path:
    """A tiled pyramid: SubIFDs where ``ome``, pages otherwise; deflate, so that every value stays."""
    options = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb"}
    metadata = {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp} if ome and mpp else None
    resolution = {} if ome or mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, ome=ome) as writer:
        extra = {"subifds": levels - 1} if ome else {}
        writer.write(pixels, metadata=metadata, **options, **resolution, **extra)
        for level in range(1, levels):
            smaller = np.rint(block_means(pixels, 2**level)).astype(np.uint8)
            writer.write(smaller, metadata=None, subfiletype=1, **options)
    return path


def save_strips(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """A flat TIFF of strips of 16 rows."""
    tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=16, metadata=None, **options)
    return path


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """Level 0 of every generated slide."""
    return picture(352, 416)


KINDS: dict[str, Callable[[Path, np.ndarray], Path]] = {
    "generic.tif": save_pyramid,
    "pyramid.ome.tif": lambda path, array: save_pyramid(path, array, ome=True),
    "strips.tif": lambda path, array: save_strips(path, array, compression="lzw"),
    "raw.tiff": save_strips,
}


@pytest.fixture(scope="session", params=list(KINDS))
def slide_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    """The same picture as a generic pyramid, an OME-TIFF with SubIFDs, and flat strips with and without compression."""
    return KINDS[request.param](tmp_path_factory.mktemp("slides") / request.param, pixels)


@pytest.fixture
def make_pyramid() -> Callable[..., Path]:
    return save_pyramid
