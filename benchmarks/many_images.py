"""Measure peak memory and time of the commands that walk over a folder of images, by the number of images.

    python benchmarks/many_images.py                              100 and 1,000 images of 256 px, every command
    python benchmarks/many_images.py prepare annotate --counts 1000 10000
    .venv-label/bin/python benchmarks/many_images.py label-server       the server of MONAI Label, of `make label-env`

`prepare` reads a folder with points and masks; `prepare --classes` one whose masks have to be written anew;
`evaluating` tests all but ten images, with two shifts of stain; `inference` segments all; `label-app` writes the data
set of a training of MONAI Label from GeoJSON labels; `annotate` is the server: seconds until it says its address, until
the project is described for the first time, and until all thumbnails are made, which the gallery asks for as one
scrolls; `label-server` is the server of MONAI Label with this app, and its requests (`label_server.py`); it is left out
where MONAI Label is not installed.
Each runs in a process of its own; memory is that process's peak, packages included, and growth is against the
first number. The network is a narrow U-Net of one epoch; the images are hard links to 50 different ones.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from label_server import measure as label_server_measured
from label_server import peak_of
from scale import NARROW, TRAIN, many_cases

COMMAND = [sys.executable, "-W", "ignore", "-m"]
EVALUATE = TRAIN.with_name("evaluate.yaml")
INFERENCE = TRAIN.with_name("inference.yaml")


@dataclass(frozen=True)
class Measured:
    """Seconds of some parts, and the peak memory in MiB of the process and of others that it started."""

    seconds: dict[str, float]
    peak: float
    others: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*WORK, []], help="commands (default all)")
    parser.add_argument("--counts", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--cache", type=float, default=0.05, help="GiB of evaluating (default 0.05)")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = str(TRAIN.parents[2])
    print("| command | images | seconds | peak MiB | growth |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.what or installed():
            first: dict[str, float] = {}
            for count in arguments.counts:
                data = Path(folder) / f"data_{count}"
                many_cases(data, count, size=arguments.size, different=min(50, count), tested=count - 10)
                found = WORK[name](data, Path(folder) / f"{name.replace(' ', '_')}_{count}", arguments.cache)
                times = ", ".join(f"{part} {seconds:.1f}".strip() for part, seconds in found.seconds.items())
                for part, peak in {name: found.peak, **found.others}.items():
                    growth = peak / first.setdefault(part, peak)
                    shown = times if part == name else ""
                    print(f"| {part} | {count} | {shown} | {peak:.0f} | {growth:.2f} |", flush=True)


def installed() -> list[str]:
    """Names of all commands that can run here."""
    there = importlib.util.find_spec("monailabel") is not None
    return [name for name in WORK if there or name != "label-server"]


def run(*words: str | Path, path: Path | None = None) -> Measured:
    """A module to its end, `path` beside those where modules are looked for; its last words where it fails."""
    start, places = time.perf_counter(), os.environ["PYTHONPATH"]
    settings = os.environ | ({"PYTHONPATH": f"{path}{os.pathsep}{places}"} if path else {})
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen([*COMMAND, *map(str, words)], stdout=said, stderr=subprocess.STDOUT, env=settings)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise SystemExit(said.read()[-2000:])
    return Measured({"": time.perf_counter() - start}, used.ru_maxrss / 2**10)


def prepare(data: Path, out: Path, cache: float) -> Measured:
    del cache
    return run("cvm_monai", "prepare", data, "--out", out)


def prepare_classes(data: Path, out: Path, cache: float) -> Measured:
    """Its class map turns the masks over, so that all of them are written."""
    del cache
    classes = '{"255": "background", "0": "target", "target": "target", "background": "background"}'
    return run("cvm_monai", "prepare", data, "--out", out, "--classes", classes)


def trained(data: Path) -> Path:
    """The output folder of one epoch on the different images."""
    output = data.parent / f"trained_{data.name}"
    if not output.is_dir():
        different = data.parent / f"{data.name}_different"
        options = ["--dataset_dir", different, "--output_dir", output, "--tracking_uri", "none", "--max_epochs", "1"]
        options += ["--network", "unet", "--network_channels", str(NARROW), "--supervision", "partial_ce"]
        run("monai.bundle", "run", "training", "--config_file", TRAIN, *options)
    return output


def evaluating(data: Path, out: Path, cache: float) -> Measured:
    del out
    options = [
        "--dataset_dir",
        data,
        "--output_dir",
        trained(data),
        "--cache",
        str(cache),
        "--stain_shifts",
        "[0.8,1.25]",
    ]
    return run("monai.bundle", "run", "evaluating", "--config_file", str([str(TRAIN), str(EVALUATE)]), *options)


def inference(data: Path, out: Path, cache: float) -> Measured:
    del cache
    options = ["--dataset_dir", data, "--output_dir", trained(data), "--prediction_dir", out]
    return run("monai.bundle", "run", "inference", "--config_file", INFERENCE, *options)


def label_app(data: Path, out: Path, cache: float) -> Measured:
    """The data set alone: the training itself is the bundle's."""
    del cache
    out.mkdir()
    (out / "label_data.py").write_text(LABEL_APP)
    return run("label_data", data, out, path=out)


LABEL_APP = """
import sys
from pathlib import Path
from cvm_monai.label_app.training_data import check_labels, part_records, write_dataset
data, out = map(Path, sys.argv[1:])
found = [(path.stem, path, data / "points" / f"{path.stem}.geojson") for path in sorted((data / "images").iterdir())]
check_labels(found, classes={})
write_dataset(found, out, classes={})
part_records(dataset_dir=str(out), part="train")
"""


def annotate(data: Path, out: Path, cache: float) -> Measured:
    del out, cache
    import requests

    start, marks = time.perf_counter(), dict[str, float]()
    command = [*COMMAND, "cvm_monai", "annotate", str(data), "--port", "0", "--api-only"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = next(match for line in server.stdout if (match := re.search(r"(http://\S+)/\?token=(\S+)", line)))
        marks["start"] = time.perf_counter() - start
        session = requests.Session()
        session.headers["authorization"] = f"Bearer {address[2]}"
        api = f"{address[1]}/api"
        for name in ("project", "project again"):
            start = time.perf_counter()
            images = session.get(f"{api}/project").json()["images"]
            marks[name] = time.perf_counter() - start
        start = time.perf_counter()
        for image in images:
            session.get(f"{api}/images/{image['id']}/thumbnail.jpg").raise_for_status()
        marks["thumbnails"] = time.perf_counter() - start
        return Measured(marks, peak_of(server.pid))
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)


def label_server(data: Path, out: Path, cache: float) -> Measured:
    """The server's own peak, and those of the processes of its training."""
    del cache
    out.mkdir()
    seconds, peaks = label_server_measured(data, out)
    return Measured(seconds, peaks.pop("server"), peaks)


WORK: dict[str, Callable[[Path, Path, float], Measured]] = {
    "prepare": prepare,
    "prepare --classes": prepare_classes,
    "evaluating": evaluating,
    "inference": inference,
    "label-app": label_app,
    "annotate": annotate,
    "label-server": label_server,
}

if __name__ == "__main__":
    main()
