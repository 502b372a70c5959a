"""Compare the time of polygons of label maps with that of shapely's union of pixel runs, region by region.

    python benchmarks/polygons.py                1024 px masks beside the reference, then 10,000 px masks in strips
    python benchmarks/polygons.py --largest 4000    a smaller last table

Both make the same polygons, which is checked. A ratio divides the reference's time by ours, measured alternately in
one run as CPU time, which other load does not change. Times hold for the machine in the first line. The last table has
no reference: it would take minutes.
"""

import argparse
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import shapely
from scipy import ndimage

from cvm_monai.annotations import Region, regions_from_labels, regions_from_rows, write_results_geojson

MPP = 0.5
STRIP = 1024
MASKS = {"rough": 1.5, "blobs": 6.0, "large blobs": 25.0}
"""Sigma in pixels of the smoothed noise whose largest 40 % are the mask."""


def random_mask(size: int, sigma: float, *, seed: int = 0) -> np.ndarray:
    """(size, size) uint8 of blobs: smoothed noise above its quantile, 40 % of the pixels."""
    noise = np.random.default_rng(seed).random((size, size), dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, sigma)
    return (smooth > np.quantile(smooth[::7, ::7], 0.6)).astype(np.uint8)


def union_of_runs(mask: np.ndarray) -> list[shapely.Polygon]:
    """The usual exact way: every run of a region's pixels in a row as a box, and the union of the boxes of a region."""
    parts, _ = ndimage.label(mask)
    padded = np.pad(parts, ((0, 0), (1, 1)))
    change = np.flatnonzero(np.diff(padded, axis=1).ravel())
    row, column = np.divmod(change, padded.shape[1] - 1)
    starts = padded[row, column + 1] > 0
    ends = padded[row, column] > 0
    boxes = shapely.box(column[starts], row[starts], column[ends], row[starts] + 1)
    owner = padded[row[starts], column[starts] + 1]
    order = np.argsort(owner, kind="stable")
    limits = np.flatnonzero(np.diff(owner[order])) + 1
    return [shapely.union_all(boxes[some]) for some in np.split(order, limits)]


def same(found: tuple[Region, ...], expected: list[shapely.Polygon]) -> bool:
    """Whether both cover the same pixels with the same number of holes, region by region."""
    shapes = [shapely.Polygon(region.exterior, region.holes) for region in found]
    return len(shapes) == len(expected) and all(
        len(one.interiors) == len(other.interiors) and one.equals(other)
        for one, other in zip(shapes, expected, strict=True)
    )


def medians(tasks: dict[str, Callable[[], object]], *, runs: int = 3) -> dict[str, float]:
    """Median CPU seconds of each task; the tasks take turns."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(runs):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def against_the_union(size: int = 1024) -> None:
    """Exact and simplified regions beside the union of runs."""
    print(f"\nRegions of a {size} px mask, CPU seconds; ratio of the union's time to ours; vertices exact, simplified")
    print(
        f"{'mask':12} {'regions':>8} {'holes':>6} {'union':>7} {'exact':>7} {'ratio':>6} {'2 px':>7} {'vertices':>18}"
    )
    for name, sigma in MASKS.items():
        mask = random_mask(size, sigma)
        regions, simple = regions_from_labels(mask), regions_from_labels(mask, simplify=2)
        assert same(regions, union_of_runs(mask)), name
        found = medians(
            {
                "union": lambda mask=mask: union_of_runs(mask),
                "exact": lambda mask=mask: regions_from_labels(mask),
                "simple": lambda mask=mask: regions_from_labels(mask, simplify=2),
            }
        )
        holes = sum(len(region.holes) for region in regions)
        print(
            f"{name:12} {len(regions):8} {holes:6} {found['union']:7.2f} {found['exact']:7.2f} "
            f"{found['union'] / found['exact']:6.1f} {found['simple']:7.2f} {vertices(regions):9} {vertices(simple):8}"
        )


def vertices(regions: tuple[Region, ...]) -> int:
    """Of all rings."""
    return sum(len(ring) for region in regions for ring in (region.exterior, *region.holes))


def strips(mask: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The mask as it comes from a file that does not fit in memory, with a probability beside it."""
    for row in range(0, len(mask), STRIP):
        some = mask[row : row + STRIP]
        yield row, some, some * np.uint8(200)


def large_masks(size: int) -> None:
    """A whole slide's mask in strips, simplified by one micrometre and written as GeoJSON."""
    print(f"\nA {size} px mask in strips of {STRIP} rows, simplified by 2 px and written: CPU seconds, file")
    print(f"{'mask':12} {'regions':>8} {'read and found':>15} {'simplified, written':>20} {'MB':>6}")
    for name, sigma in list(MASKS.items())[1:]:
        mask = random_mask(size, sigma * 2)
        start = time.process_time()
        results = regions_from_rows(strips(mask), mpp=MPP, simplify_um=2 * MPP)
        middle = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "regions.geojson"
            totals = write_results_geojson(path, results)
            end = time.process_time()
            megabytes = path.stat().st_size / 1e6
        print(f"{name:12} {totals[1].count:8} {middle - start:15.1f} {end - middle:20.1f} {megabytes:6.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process, the making of the mask included: {peak:.0f} MiB")


def main() -> None:
    if os.environ.get("OMP_NUM_THREADS") != "1":  # must stand before NumPy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_NUM_THREADS": "1"})
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--largest", type=int, default=10_000, help="side of the last table's masks in pixels")
    largest = parser.parse_args().largest
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "scikit-image", "shapely"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}")
    against_the_union()
    large_masks(largest)


if __name__ == "__main__":
    main()
