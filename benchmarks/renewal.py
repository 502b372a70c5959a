"""Time a whole renewal of u on a device, from decoded images to files, beside the bare network on the same images.

    python benchmarks/renewal.py --device cuda                         348 images of 256 px, one map each
    python benchmarks/renewal.py --device cuda --combination mean      one map for each in-target point
    python benchmarks/renewal.py --cases 4 --size 64 --network unet --channels 8 8 8 8 8

The bundle's own renewal on the training images of a phantom (24 different ones under as many names as are asked for,
more validate and test), all of them held decoded; the first renewal warms up and is not counted. The parts are timed
inside it, the device's work included: waiting for it after each part costs a little, so that their sum is an upper
limit; `whole` is measured without. The reference is `network.features` on the same images, one by one.
"""

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scale import TRAIN, many_cases

DIFFERENT = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--cases", type=int, default=348, help="training images (default 348)")
    parser.add_argument("--size", type=int, default=256, help="their side in pixels (default 256)")
    parser.add_argument("--network", default="resnet34_unet")
    parser.add_argument("--channels", type=int, nargs="*", help="of --network unet")
    parser.add_argument("--combination", default="pooled", help="pooled, max, vote or mean (default pooled)")
    parser.add_argument("--solver", default="primal_dual", help="primal_dual or aos (default primal_dual)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        entries = next(n for n in range(arguments.cases, 2 * arguments.cases + 3) if trained(n) == arguments.cases)
        many_cases(Path(folder) / "data", entries, size=arguments.size, different=DIFFERENT)
        measure(Path(folder), arguments)


def trained(entries: int) -> int:
    """Images that train of so many, of which one tests and a fifth of the others validate."""
    return entries - 1 - max(1, round((entries - 1) / 5))


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """Print seconds of the whole, of its parts and of the reference."""
    from cvm_monai.doctor.workflow import opened

    place = {"dataset_dir": str(folder / "data"), "output_dir": str(folder / "run"), "tracking_uri": "none"}
    knobs = {"network": arguments.network, "network_channels": arguments.channels, "device": arguments.device}
    knobs |= {"combination": arguments.combination, "solver": arguments.solver, "cache": 64.0, "amp": False}
    renewal = opened(TRAIN, {**place, **knobs}).parser.get_parsed_content("validate#renewal")
    wait = waiting(arguments.device)
    report = renewal.renew(epoch=1)
    whole = min(timed(lambda: renewal.renew(epoch=1), wait) for _ in range(arguments.rounds))
    images = [renewal.dataset[index]["image"][None].to(renewal.device) for index in range(len(renewal.dataset))]
    bare = min(timed(lambda: features(renewal.network, images), wait) for _ in range(arguments.rounds))
    with parts_of(renewal, wait) as parts:
        renewal.renew(epoch=1)
    count = len(renewal.dataset)
    print(f"{count} images of {arguments.size} px, {report.labelled} of them with u, {arguments.device}; seconds\n")
    print(f"| whole | images/s | bare network | whole / bare | {' | '.join(parts)} |")
    print(f"|---|---|---|---|{'---|' * len(parts)}")
    cells = " | ".join(f"{seconds:.3f}" for seconds in parts.values())
    print(f"| {whole:.3f} | {count / whole:.1f} | {bare:.3f} | {whole / bare:.2f} | {cells} |")


def features(network: Any, images: list) -> None:
    """The network alone over images on the device."""
    import torch

    network.eval()
    with torch.no_grad():
        for image in images:
            network.features(image)


@contextmanager
def parts_of(renewal: Any, wait: Callable[[], None]) -> Iterator[Counter[str]]:
    """Seconds of a renewal's parts: images prepared, network, evidence, solves, files."""
    found: Counter[str] = Counter()
    places = {
        "images": (renewal.dataset, "_transform"),
        "network": (renewal.network, "features"),
        "evidence": (renewal.supervision, "evidence"),
        "solve": (renewal.supervision, "pseudo_labels"),
        "files": (renewal.store, "write"),
    }
    for name, (owner, attribute) in places.items():
        found[name] = 0.0
        setattr(owner, attribute, clocked(found, name, getattr(owner, attribute), wait))
    try:
        yield found
    finally:
        for owner, attribute in places.values():
            delattr(owner, attribute)


def clocked(found: Counter[str], name: str, work: Callable[..., Any], wait: Callable[[], None]) -> Callable[..., Any]:
    """The same work, its seconds added to a part."""

    def measured(*values: Any, **options: Any) -> Any:
        wait()
        start = time.perf_counter()
        result = work(*values, **options)
        wait()
        found[name] += time.perf_counter() - start
        return result

    return measured


def waiting(device: str) -> Callable[[], None]:
    """What waits for a device's work."""
    import torch

    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def timed(work: Callable[[], Any], wait: Callable[[], None]) -> float:
    """Seconds by the clock, the device's work included."""
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
