"""Measure `cvm-monai annotate`: the first picture of a slide, and the first and later answers to clicks.

    OMP_NUM_THREADS=1 python benchmarks/annotate.py [--side 40000] [--size 512] [--rounds 7]

A pyramid of SIDE x SIDE px (a phantom image, repeated) and an image of SIZE px lie in a folder that a real server
process serves on loopback. Each row is measured through HTTP, and by the same work called directly in this process, the
reference; ratio: the seconds through HTTP over those of the reference, medians. The processor's seconds are those of
the server: on a busy machine the clock says how busy it is.

    first picture    address of the slide's tiles and all tiles of the coarsest level that fills a view of 1024 px, the
                     slide being opened for it; in each round another copy of the slide
    first answer     u after 2 + 2 clicks, features computed
    later answer     u after each further click, features kept: the edit on disk and the segmentation
    edit             one click saved
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import requests
import torch
from PIL import Image

from cvm_monai.annotate.image_routes import segment_message
from cvm_monai.annotate.messages import AddEdit
from cvm_monai.annotate.project import Project
from cvm_monai.annotate.tiles import TILE, Zoom, jpeg, read_tile
from cvm_monai.annotate.workspace import Workspace
from cvm_monai.data.phantom import generate_phantom
from cvm_monai.slides import open_image, write_pyramid

VIEW = 1024
"""Longer side in px of the view that the first picture fills."""

GOALS = {"first picture": 1.0, "first answer": 3.0, "later answer": 0.3, "edit": None}
"""Seconds, on one thread."""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=40_000, help="side of the slide in px")
    parser.add_argument("--size", type=int, default=512, help="side of the image that is clicked on in px")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "study"
        mask = draw(folder, Path(name), side=arguments.side, size=arguments.size, rounds=arguments.rounds)
        places = clicks(mask, 2 + arguments.rounds)
        direct = directly(folder, places, arguments.rounds)
        served, busy = through_http(folder, places, arguments.rounds)
    print("| what | HTTP median s | HTTP least s | processor median s | reference median s | ratio | goal s |")
    print("|---|---|---|---|---|---|---|")
    for what, goal in GOALS.items():
        own, reference = statistics.median(served[what]), statistics.median(direct[what])
        aim = "" if goal is None else f"{goal:g}"
        cells = (own, min(served[what]), statistics.median(busy[what]), reference)
        print(f"| {what} | {' | '.join(f'{cell:.3f}' for cell in cells)} | {own / reference:.2f} | {aim} |")
    return 0


def draw(folder: Path, work: Path, *, side: int, size: int, rounds: int) -> np.ndarray:
    """Draw `images/`: an image, and a slide with its copies (hard links); returns the image's mask."""
    generate_phantom(work / "phantom", cases=1, size=size, patients=1)
    source = next((work / "phantom" / "images").iterdir())
    pixels = np.array(Image.open(source))
    images = folder / "images"
    images.mkdir(parents=True)
    Image.fromarray(pixels).save(images / "field.png")
    first = images / "slide_0.tif"

    row = np.concatenate([pixels] * -(-side // size), axis=1)[:, :side]
    strips = (row[: min(size, side - top)] for top in range(0, side, size))
    write_pyramid(first, (side, side, 3), strips, mpp=0.5, ome=False, compression="jpeg")
    for number in range(1, 2 * rounds):
        (images / f"slide_{number}.tif").hardlink_to(first)
    return np.array(Image.open(work / "phantom" / "masks" / source.name)) > 0


def clicks(mask: np.ndarray, count: int) -> list[AddEdit]:
    """`count` in the mask and as many outside it, in turn."""
    rng = np.random.default_rng(0)
    kinds = [rng.permutation(np.argwhere(mask == wanted))[:count] for wanted in (True, False)]
    pairs = zip(*kinds, strict=True)
    return [
        AddEdit(op="add", x=float(x) + 0.5, y=float(y) + 0.5, label=label)
        for pair in pairs
        for label, (y, x) in zip((1, 0), pair, strict=True)
    ]


def level_of_view(zoom: Zoom) -> tuple[int, list[tuple[int, int]]]:
    """The coarsest level that fills the view, and the (column, row) of its tiles."""
    level = next((one for one in range(zoom.max_level) if max(zoom.size(one)) >= VIEW), zoom.max_level)
    height, width = zoom.size(level)
    return level, [(column, row) for row in range(-(-height // TILE)) for column in range(-(-width // TILE))]


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def directly(folder: Path, places: list[AddEdit], rounds: int) -> dict[str, list[float]]:
    """The reference: the same work without a server, on a copy of the folder's state that is removed afterwards."""

    def picture(number: int) -> None:
        with open_image(folder / "images" / f"slide_{number}.tif") as slide:
            level, tiles = level_of_view(Zoom(*slide.shape))
            for column, row in tiles:
                jpeg(read_tile(slide, level, column, row))

    found = {"first picture": [timed(lambda n=n: picture(rounds + n)) for n in range(rounds)]}
    workspace = Workspace(Project(folder, output=folder.parent / "direct"))
    image = next(one for one in workspace.project.images.values() if one.name == "field")

    def answer() -> None:
        segment_message(workspace.answers.segment(image, workspace.points(image)), 0.5)

    workspace.edit(image, 0, places[:4])
    found["first answer"] = [timed(answer)]
    found["later answer"], found["edit"] = [], []
    for place in places[4:]:
        revision = workspace.journal(image).current().revision
        saving = timed(lambda revision=revision, place=place: workspace.edit(image, revision, [place]))
        found["edit"].append(saving)
        found["later answer"].append(saving + timed(answer))
    workspace.stop()
    image.points.unlink()
    return found


def processor_seconds(pid: int) -> float:
    """Seconds of the processor that a process has taken so far."""
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Times = dict[str, list[float]]


def through_http(folder: Path, places: list[AddEdit], rounds: int) -> tuple[Times, Times]:
    """The same asked of a server process: seconds by the clock, and of its processor."""
    command = [sys.executable, "-m", "cvm_monai", "annotate", str(folder), "--port", "0", "--api-only"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = next(match for line in server.stdout if (match := re.search(r"(http://\S+)/\?token=(\S+)", line)))
        session = requests.Session()
        session.headers["authorization"] = f"Bearer {address[2]}"
        return asked(session, f"{address[1]}/api", places, rounds, server.pid)
    finally:
        server.terminate()
        server.wait(30)


def asked(session: requests.Session, api: str, places: list[AddEdit], rounds: int, pid: int) -> tuple[Times, Times]:
    """Seconds of each request by the clock, and of the server's processor."""
    images = {image["name"]: image for image in session.get(f"{api}/project").json()["images"]}
    field = f"{api}/images/{images['field']['id']}"
    clock: Times = {what: [] for what in GOALS}
    busy: Times = {what: [] for what in GOALS}

    def measured(what: str, work: Callable[[], object]) -> None:
        before = processor_seconds(pid)
        clock[what].append(timed(work))
        busy[what].append(processor_seconds(pid) - before)

    def picture(number: int) -> None:
        slide = f"{api}/images/{images[f'slide_{number}']['id']}/tiles"
        facts = session.get(slide).json()
        level, tiles = level_of_view(Zoom(facts["height"], facts["width"]))
        for column, row in tiles:
            session.get(f"{slide}/{level}/{column}_{row}.jpg").raise_for_status()

    def edit(some: list[AddEdit]) -> None:
        body = {"revision": state["revision"], "edits": [place.model_dump() for place in some]}
        state.update(session.post(f"{field}/edits", json=body).json())

    def answer() -> None:
        assert session.post(f"{field}/segment", json={}).json()["u"]

    for number in range(rounds):
        measured("first picture", lambda number=number: picture(number))
    state = session.get(f"{field}/annotations").json()
    edit(places[:4])
    measured("first answer", answer)
    for place in places[4:]:
        measured("edit", lambda place=place: edit([place]))
        measured("later answer", answer)
        for times in (clock, busy):
            times["later answer"][-1] += times["edit"][-1]
    return clock, busy


if __name__ == "__main__":
    sys.exit(main())
