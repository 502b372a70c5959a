"""Measure the memory of whole-slide prediction by slide size, and its throughput beside the bare network.

    python benchmarks/whole_slide.py                      memory at 10,000 and 20,000 px a side, and the throughput
    python benchmarks/whole_slide.py --sizes 40000 --tiles 0
    python benchmarks/whole_slide.py --sizes --tiles 144 --device cuda --amp --batch_size 8 --workers 8

Memory: peak of a separate process for each size, packages included, with a network of one layer.
Throughput: `resnet34_unet` with random weights over some tiles of a slide of 10,000 px, read ahead, blended and written
to disk, against the bare loop of the network over the same tiles, which are in memory, in the same process. The bare
loop is run before and after, and both rates are printed, to show other load. The ratio by the processor's time, in
which reading counts in full although another core may do it, is a lower limit for an idle machine; on a GPU there is
only that by the clock.
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
    parser.add_argument("--device", default="cpu", help="of the throughput: cpu or cuda (default cpu)")
    parser.add_argument("--amp", action="store_true", help="mixed precision in both")
    parser.add_argument("--batch_size", type=int, default=1, help="tiles per pass of the network")
    parser.add_argument("--workers", type=int, default=2, help="threads that read tiles ahead (default 2)")
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
            print(throughput(Path(folder), arguments), flush=True)


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


def throughput(folder: Path, arguments: argparse.Namespace) -> str:
    """Tiles per second of the whole against the bare network."""
    import torch

    from cvm_monai.inference.whole_slide import SlideModel
    from cvm_monai.inference.whole_slide.map_file import MapFile
    from cvm_monai.inference.whole_slide.predict_map import predict_map, read_tile, tissue_tiles
    from cvm_monai.networks import build_network
    from cvm_monai.slides import open_image

    torch.set_num_threads(1)
    device, side, window = torch.device(arguments.device), arguments.side, arguments.window
    network = build_network("resnet34_unet").eval().to(device)
    model = SlideModel(network, mpp=0.5, device=device, amp=arguments.amp)
    tissue = upper_tiles(side, window, arguments.tiles)
    grid, places = tissue.grid, np.argwhere(tissue_tiles(tissue, stride=1))
    with open_image(write_slide(folder / "slide.tif", side)) as image:
        held = [torch.from_numpy(read_tile(image, grid, grid.rows[r], grid.columns[c])) for r, c in places]
        batches = [torch.stack(part) for part in by_row(held, places, arguments.batch_size)]
        for _ in range(2):  # warms up
            model.logits(batches[0]).sum().item()
        before = bare(model, batches)
        store = MapFile(folder / "map", (side, 1, side), {})
        load = {"batch_size": arguments.batch_size, "num_workers": arguments.workers}
        whole = timed(lambda: predict_map(model, image, tissue, store, stride=1, **load))
        after = bare(model, batches)
    count, (clock, processor) = len(held), ((one + other) / 2 for one, other in zip(before, after, strict=True))
    return (
        f"resnet34_unet, {count} tiles of {window} px of a slide of {side} px: {device.type}, "
        f"{arguments.workers} readers: bare {count / before[0]:.3f} and {count / after[0]:.3f} tiles/s "
        f"before and after, whole {count / whole[0]:.3f} tiles/s: ratio {clock / whole[0]:.3f}"
        + (f", by the processor's time {processor / whole[1]:.3f}" if device.type == "cpu" else "")
    )


def upper_tiles(side: int, window: int, tiles: int):
    """Tissue over as many rows and columns of a slide's tiles as make about the number asked for."""
    from cvm_monai.inference.whole_slide import TissueOnGrid, make_grid
    from cvm_monai.slides import TissueMask

    grid = make_grid((side, side), scale=1.0, window=window)
    across = max(1, round(tiles**0.5))
    mask = np.zeros((side, side), bool)
    rows, columns = grid.rows[: -(-tiles // across)], grid.columns[:across]
    mask[rows[0] : rows[-1] + window // 4, columns[0] : columns[-1] + window // 4] = True
    return TissueOnGrid(TissueMask(mask, (1.0, 1.0), "user"), grid)


def by_row(held: list, places: np.ndarray, size: int) -> list[list]:
    """Batches of tiles, none of them over two rows, as the prediction makes them."""
    rows = [
        [tile for tile, place in zip(held, places, strict=True) if place[0] == row] for row in np.unique(places[:, 0])
    ]
    return [row[start : start + size] for row in rows for start in range(0, len(row), size)]


def bare(model, batches) -> tuple[float, float]:
    """Seconds of the network alone."""
    return timed(lambda: [model.logits(batch) for batch in batches])


def timed(work) -> tuple[float, float]:
    """Seconds by the clock, the device's work included, and of the processor in all threads."""
    import torch

    clock, processor = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
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
