"""Measure the latency of a click: `infer/cvm_points` without the server, first and later answers, on one thread."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cvm_monai.data.phantom import generate_phantom
from cvm_monai.interactive.current import ActiveModel, ModelLoader, recorded_knobs
from cvm_monai.label_app.answer import Segmenter
from cvm_monai.label_app.app_settings import read_settings
from cvm_monai.networks import build_network

FIRST, LATER = 3.0, 0.5
"""Seconds that an annotator will wait."""


class Fixed(ModelLoader):
    """Always the same network; another key, so that no features are kept, after `renew`."""

    number = 0

    def renew(self) -> None:
        self.number += 1

    def get(self) -> ActiveModel:
        return ActiveModel(NETWORK, self.work, recorded_knobs(None), str(self.number))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="side of the image in px")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, mask = draw(folder, arguments.size)
        current = Fixed(folder)
        segmenter = Segmenter(read_settings({}, studies=folder), current)
        print("| clicks | answer | least s | median s | least processor s | goal s |\n|---|---|---|---|---|---|")
        for count in (1, 5, 10):
            times: dict[str, list[tuple[float, float]]] = {"first": [], "later": []}
            for seed in range(arguments.rounds):
                current.renew()
                times["first"].append(timed(segmenter, clicks(mask, count, seed), image))
                times["later"].append(timed(segmenter, clicks(mask, count, seed + 100), image))
            for answer, goal in (("first", FIRST), ("later", LATER)):
                wall, busy = zip(*times[answer], strict=True)
                row = f"{min(wall):.2f} | {statistics.median(wall):.2f} | {min(busy):.2f} | {goal:g}"
                print(f"| {count} + {count} | {answer} | {row} |")


def draw(folder: Path, size: int) -> tuple[Path, np.ndarray]:
    """One image of the phantom and its mask."""
    generate_phantom(folder / "phantom", cases=1, size=size, patients=1)
    image = next((folder / "phantom" / "images").iterdir())
    return image, np.array(Image.open(folder / "phantom" / "masks" / image.name)) > 0


def clicks(mask: np.ndarray, count: int, seed: int) -> dict[str, Any]:
    """A request with random ones inside and outside the mask; without eta, as random weights correlate everything."""
    rng = np.random.default_rng(seed)
    places = {name: rng.permutation(np.argwhere(mask == wanted))[:count] for name, wanted in KINDS.items()}
    found = {name: [[float(x) + 0.5, float(y) + 0.5] for y, x in some] for name, some in places.items()}
    return {"eta": 0, **found}


def timed(segmenter: Segmenter, request: dict[str, Any], image: Path) -> tuple[float, float]:
    """Seconds by the clock and of the processor for one answer, its file and polygons included."""
    wall, busy = time.perf_counter(), time.process_time()
    file, _ = segmenter(request, image, method="points")
    found = time.perf_counter() - wall, time.process_time() - busy
    Path(str(file)).unlink()
    return found


KINDS = {"foreground": True, "background": False}
torch.manual_seed(0)
NETWORK = build_network("resnet34_unet").eval()

if __name__ == "__main__":
    main()
