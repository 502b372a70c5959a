"""Measure the memory of whole-slide prediction by slide size, and its throughput beside the bare network.

    python benchmarks/whole_slide.py                      memory at 10,000 and 20,000 px a side, and the throughput
    python benchmarks/whole_slide.py --sizes 40000 --tiles 0

Memory: peak of a separate process for each size, packages included, with a network of one layer.
Throughput: `resnet34_unet` with random weights over some tiles of a slide of 10,000 px, read ahead, blended and written
to disk, against the bare loop of the network over the same tiles, which are in memory, in the same process. The bare
loop is run before and after, and both rates are printed, to show other load. The ratio is of CPU time, in which reading
counts in full although another core may do it: a lower limit for an idle machine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TILE = 512
PATTERNS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 20_000], help="sides of the slides in pixels")
    parser.add_argument("--window", type=int, default=1024, help="side of the network's tiles")
    parser.add_argument("--tiles", type=int, default=12, help="tiles of the throughput; 0 leaves it out")
    parser.add_argument("--side", type=int, default=10_000, help="of the throughput's slide")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if arguments.child:
        print(json.dumps(memory(Path(arguments.child), arguments.window)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.sizes:
            print("| side | tiles | peak memory | map | results | file |\n|---|---|---|---|---|---|")
        for side in arguments.sizes:
            path = write_slide(Path(folder) / f"slide_{side}.tif", side)
            print(memory_row(path, side, arguments.window), flush=True)
            path.unlink()
        if arguments.tiles:
            print(throughput(Path(folder), arguments.side, arguments.window, arguments.tiles), flush=True)


def memory_row(path: Path, side: int, window: int) -> str:
    """One size, in a process of its own."""
    command = [sys.executable, __file__, "--child", str(path), "--window", str(window)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        raise SystemExit(child.stderr)
    found = json.loads(child.stdout.splitlines()[-1])
    return (
        f"| {side} | {found['tiles']} | {found['peak_mib']:.0f} MiB | {found['map_seconds']:.0f} s "
        f"| {found['result_seconds']:.0f} s | {path.stat().st_size / 2**20:.0f} MiB |"
    )


def memory(path: Path, window: int) -> dict[str, float]:
    """Predict a slide with a network of one layer; the process's peak."""
    from cvm_monai.inference.whole_slide import SlideModel, SlideOptions, one_slide, predict_slides

    model = SlideModel(one_layer(), mpp=0.5)
    marks: dict[str, float] = {}
    write = one_slide.write_results

    def marked(*args, **kwargs):
        marks["map"] = time.perf_counter()
        return write(*args, **kwargs)

    one_slide.write_results = marked
    began = time.perf_counter()
    lines: list[str] = []
    report = predict_slides(
        model,
        [path],
        path.parent / f"out_{path.stem}",
        options=SlideOptions(window=window),
        say=lines.append,
        bar=False,
    )
    if report.failed:
        raise SystemExit(str(report.failed))
    record = json.loads((path.parent / f"out_{path.stem}" / path.stem / "run.json").read_text())
    side = record["settings"]["prediction"]["slide_shape"][0]
    step = window * 3 // 4
    return {
        "tiles": (-(-(side - window) // step) + 1) ** 2,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "map_seconds": marks["map"] - began,
        "result_seconds": time.perf_counter() - marks["map"],
    }


def one_layer():
    """A 5 x 5 mean of red against one half: a network whose cost is next to nothing."""
    import torch

    layer = torch.nn.Conv2d(3, 2, 5, padding=2, padding_mode="replicate")
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[1, 0] = -4 / 25
    return layer.eval()


def throughput(folder: Path, side: int, window: int, tiles: int) -> str:
    """Tiles per second of the whole against the bare network."""
    import torch

    from cvm_monai.inference.whole_slide import SlideModel, TissueOnGrid, make_grid
    from cvm_monai.inference.whole_slide.map_file import MapFile
    from cvm_monai.inference.whole_slide.predict_map import predict_map, read_tile, tissue_tiles
    from cvm_monai.networks import build_network
    from cvm_monai.slides import TissueMask, open_image

    torch.set_num_threads(1)
    model = SlideModel(build_network("resnet34_unet").eval(), mpp=0.5)
    path = write_slide(folder / "slide.tif", side)
    grid = make_grid((side, side), scale=1.0, window=window)
    across = max(1, round(tiles**0.5))
    mask = np.zeros((side, side), bool)  # as many rows and columns of tiles as make about the number asked for
    rows, columns = grid.rows[: -(-tiles // across)], grid.columns[:across]
    mask[rows[0] : rows[-1] + window // 4, columns[0] : columns[-1] + window // 4] = True
    tissue = TissueOnGrid(TissueMask(mask, (1.0, 1.0), "user"), grid)
    places = np.argwhere(tissue_tiles(tissue, stride=1))
    with open_image(path) as image:
        held = [torch.from_numpy(read_tile(image, grid, grid.rows[r], grid.columns[c]))[None] for r, c in places]
        model.logits(held[0])
        before = bare(model, held)
        store = MapFile(folder / "map", (side, 1, side), {})
        whole = timed(lambda: predict_map(model, image, tissue, store, stride=1))
        after = bare(model, held)
    count, (clock, processor) = len(held), ((one + other) / 2 for one, other in zip(before, after, strict=True))
    return (
        f"resnet34_unet, {count} tiles of {window} px of a slide of {side} px: bare {count / before[0]:.3f} and "
        f"{count / after[0]:.3f} tiles/s before and after, whole {count / whole[0]:.3f} tiles/s: "
        f"ratio {clock / whole[0]:.3f}, by the processor's time {processor / whole[1]:.3f}"
    )


def bare(model, held) -> tuple[float, float]:
    """Seconds of the network alone."""
    return timed(lambda: [model.logits(tile) for tile in held])


def timed(work) -> tuple[float, float]:
    """Seconds by the clock, and of the processor in all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def write_slide(path: Path, side: int) -> Path:
    """A tiled JPEG TIFF at 0.5 um/px whose tiles repeat a few: 40,000 px a side in seconds."""
    import imagecodecs
    import tifffile

    encoded = [imagecodecs.jpeg8_encode(pattern(seed), level=80) for seed in range(PATTERNS)]
    count = -(-side // TILE)
    tiles = (encoded[(row * 7 + column * 3) % PATTERNS] for row in range(count) for column in range(count))
    tifffile.imwrite(
        path,
        tiles,
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="ycbcr",
        subsampling=(2, 2),
        compression="jpeg",
        bigtiff=True,
        metadata=None,
        resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
    )
    return path


def pattern(seed: int) -> np.ndarray:
    """(TILE, TILE, 3) uint8: blobs of a purple on pink."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal((TILE, TILE)), 16, mode="wrap")
    part = 1 / (1 + np.exp(-8 * field / field.std()))[..., None]
    colours = part * np.array([110, 60, 150]) + (1 - part) * np.array([225, 150, 200])
    return np.clip(colours + rng.normal(0, 6, (TILE, TILE, 3)), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
