"""Compare time and memory of reading a very large GeoJSON file with those of json.load.

    python benchmarks/annotations.py [--polygons 700000] [--vertices 20]

Writes a file as QuPath exports detections, plain and gzipped, into a temporary folder. Each reader runs in a separate
process, so that peak memory is measured separately. json.load makes lists and dictionaries and checks nothing; the
reader makes points and regions, with labels looked up and outlines checked. Ratios are ours to json.load's, for the
same file: of CPU time, which other load does not change, and of peak memory.
"""

import argparse
import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

READING = """
import gzip, json, resource, sys, time
from pathlib import Path
path = Path(sys.argv[1])
{imports}
start, work = time.perf_counter(), time.process_time()
{body}
seconds, work = time.perf_counter() - start, time.process_time() - work
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"count": count, "seconds": seconds, "work": work, "peak": peak}}))
"""
JSON_LOAD = {
    "imports": "",
    "body": "with (gzip.open if path.suffix == '.gz' else open)(path, 'rt') as file:\n"
    "    count = len(json.load(file)['features'])",
}
ITERATOR = {
    "imports": "from cvm_monai.annotations import iter_annotations",
    "body": "count = sum(1 for _ in iter_annotations(path, classes={'Tumor': 'target', 'Stroma': 'background'}))",
}
WAYS = {"json.load": JSON_LOAD, "iter_annotations": ITERATOR}


def write_file(path: Path, *, polygons: int, vertices: int) -> None:
    """Star-shaped polygons of about 20 px, in the vocabulary of QuPath's export."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    classes = [{"name": "Tumor", "color": [200, 0, 0]}, {"name": "Stroma", "color": [150, 200, 150]}]
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number in range(polygons):
            ring = np.round(rng.uniform(50, 1e5, 2) + circle * rng.uniform(7, 12, (vertices, 1)), 2).tolist()
            feature = {
                "type": "Feature",
                "id": f"00000000-0000-4000-8000-{number:012d}",
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": {"objectType": "detection", "classification": classes[number % 2]},
            }
            file.write(",\n" * (number > 0) + json.dumps(feature))
        file.write("]}\n")


def read(path: Path, way: str) -> dict[str, float]:
    """Objects, seconds, processor seconds and peak MiB of one way, in a process of its own."""
    command = [sys.executable, "-c", READING.format(**WAYS[way]), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polygons", type=int, default=700_000)
    parser.add_argument("--vertices", type=int, default=20)
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "shapely"))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}, Python {platform.python_version()}, {packages}")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "large.geojson"
        write_file(plain, polygons=arguments.polygons, vertices=arguments.vertices)
        packed = Path(f"{plain}.gz")
        with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=5) as target:
            shutil.copyfileobj(source, target)
        print(
            f"\n{arguments.polygons} polygons of {arguments.vertices} vertices: seconds, peak MiB, ratios to json.load"
        )
        columns = f"{'s':>7} {'CPU s':>7} {'MiB':>7} {'time':>6} {'memory':>7}"
        print(f"{'file':12} {'MiB':>6} {'way':>17} {'objects':>8} {columns}")
        for path in (plain, packed):
            reference = read(path, "json.load")
            for way, found in (("json.load", reference), ("iter_annotations", read(path, "iter_annotations"))):
                time, memory = found["work"] / reference["work"], found["peak"] / reference["peak"]
                row = f"{path.suffix:12} {path.stat().st_size / 2**20:6.0f} {way:>17} {found['count']:8.0f}"
                row += f" {found['seconds']:7.1f} {found['work']:7.1f} {found['peak']:7.0f}"
                print(f"{row} {time:5.2f}x {memory:6.3f}x", flush=True)


if __name__ == "__main__":
    main()
