"""A real server of MONAI Label on a folder of images: seconds of its requests, and the peak memory of its processes.

`many_images.py label-server` calls it. Python must be that of `make label-env`. Half of the images have labels; one is
segmented by clicks before any training, ten more are copied into the folder, and one training of one epoch is asked
for, after which the network segments and ranks.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
CLICKS = {"foreground": [[128, 128], [140, 120]], "background": [[5, 5], [250, 250]]}
TRAINING = {"max_epochs": 1, "network": "unet"}
COPIED = 10
SERVER, TASK, TRAINER = "server", "its task", "its training"
KINDS = {"monailabel.main": SERVER, "monailabel.interfaces.utils.app": TASK, "monai.bundle": TRAINER}


def measure(data: Path, out: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each request, and the peak memory in MiB of the server, its task and its training."""
    studies = studies_of(data, out / "studies")
    marks: dict[str, float] = {}
    with served(studies, out, marks) as (ask, peaks):
        ask_all(ask, marks, studies)
    return marks, dict(peaks)


def studies_of(data: Path, studies: Path) -> Path:
    """Hard links to the images of a data set, and to the points of every second one as its final label."""
    labels = studies / "labels" / "final"
    labels.mkdir(parents=True)
    for number, image in enumerate(sorted((data / "images").iterdir())):
        os.link(image, studies / image.name)
        if number % 2:
            os.link(data / "points" / f"{image.stem}.geojson", labels / f"{image.stem}.geojson")
    return studies


@contextlib.contextmanager
def served(studies: Path, out: Path, marks: dict[str, float]) -> Iterator[tuple[Callable[..., Any], dict[str, float]]]:
    """Start the server as the documentation does; what asks it, and the peaks so far."""
    shutil.copytree(BUNDLE / "configs", out / "bundle" / "configs")
    shutil.copytree(BUNDLE / "scripts", out / "bundle" / "scripts")  # a bundle without a model of its own
    command = [sys.executable, "-m", "cvm_monai", "label-app", "--output", str(out / "app")]
    app = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", app, "--studies", str(studies)]
    command += ["--port", str(port), "--conf", "bundle", str(out / "bundle"), "--conf", "device", "cpu"]
    with (out / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    ended, peaks = threading.Event(), dict[str, float]()
    watcher = threading.Thread(target=watch, args=(process.pid, peaks, ended))
    watcher.start()
    try:
        ask = asking(f"http://127.0.0.1:{port}")
        marks["start"] = started(process, ask, out / "server.log")
        yield ask, peaks
    finally:
        ended.set()
        watcher.join()
        process.terminate()
        process.wait(60)


def asking(address: str) -> Callable[..., Any]:
    """What sends a request and checks its answer."""
    import requests

    def ask(method: str, path: str, **options: Any) -> Any:
        answer = requests.request(method, address + path, timeout=3600, **options)
        if answer.status_code != 200:
            raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    return ask


def started(process: subprocess.Popen[bytes], ask: Callable[..., Any], log: Path) -> float:
    """Seconds until the server answers."""
    import requests

    start = time.perf_counter()
    while process.poll() is None:
        with contextlib.suppress(requests.ConnectionError):
            ask("GET", "/info/")
            return time.perf_counter() - start
        time.sleep(0.2)
    raise SystemExit(log.read_text()[-2000:])


def ask_all(ask: Callable[..., Any], marks: dict[str, float], studies: Path) -> None:
    """Ask for everything once, or again where the first answer may be slower."""

    def timed(name: str, *request: Any, **options: Any) -> Any:
        start = time.perf_counter()
        answer = ask(*request, **options)
        marks[name] = time.perf_counter() - start
        return answer

    clicks, first = {"params": json.dumps(CLICKS)}, sorted(studies.glob("*.png"))[0]
    total = timed("info", "GET", "/info/")["datastore"]["total"]
    timed("images listed", "GET", "/datastore/?output=all")
    timed("clicks", "POST", f"/infer/cvm_points?image={first.stem}&output=json", data=clicks)
    timed("clicks again", "POST", f"/infer/cvm_points?image={first.stem}&output=json", data=clicks)
    for strategy in ("first", "random"):
        timed(strategy, "POST", f"/activelearning/{strategy}", json={})
    label = next((studies / "labels" / "final").iterdir()).read_bytes()
    kept = {"label": (f"{first.stem}.geojson", label)}
    timed("label kept", "PUT", f"/datastore/label?image={first.stem}", files=kept)
    marks[f"{COPIED} images copied"] = copied(ask, first, studies, total + COPIED)
    timed("training asked", "POST", "/train/cvm", json=TRAINING)
    marks["training"] = trained(ask)
    timed("most_uncertain", "POST", "/activelearning/most_uncertain", json={})
    timed("most_uncertain again", "POST", "/activelearning/most_uncertain", json={})
    timed("network", "POST", f"/infer/cvm?image={first.stem}&output=json")


def copied(ask: Callable[..., Any], image: Path, studies: Path, total: int) -> float:
    """Seconds until the server knows images that are copied into its folder one after the other."""
    start = time.perf_counter()
    for number in range(COPIED):
        shutil.copyfile(image, studies / f"z_copied_{number}.png")
    while ask("GET", "/info/")["datastore"]["total"] < total:
        time.sleep(0.05)
    return time.perf_counter() - start


def trained(ask: Callable[..., Any]) -> float:
    """Seconds until the training has ended well."""
    start = time.perf_counter()
    while (task := ask("GET", "/train/"))["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(1)
    if task["status"] != "DONE":
        raise SystemExit("\n".join(task["details"])[-2000:])
    return time.perf_counter() - start


def watch(pid: int, peaks: dict[str, float], ended: threading.Event) -> None:
    """Keep the largest peak memory of each kind of process that a server and its children have had, in MiB."""
    import psutil

    server = psutil.Process(pid)
    while not ended.wait(0.2):
        with contextlib.suppress(psutil.Error, OSError):
            for process in (server, *server.children(recursive=True)):
                words = process.cmdline()
                name = next((kind for module, kind in KINDS.items() if module in words), None)
                if name is not None:
                    peaks[name] = max(peaks.get(name, 0.0), peak_of(process.pid))


def peak_of(pid: int) -> float:
    """Peak memory of a running process in MiB."""
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    return int(next((line for line in lines if line.startswith("VmHWM")), "VmHWM 0").split()[1]) / 2**10
