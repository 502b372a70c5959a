"""Compare the training throughput of the bundle's trainer with a bare PyTorch loop, and time its parts.

    python benchmarks/training.py                         on the processor, loader workers 0, 1 and 2
    python benchmarks/training.py --device cuda --cases 64 --size 512 --crop_size 256 --batch_size 8

Both use the same network, data, transforms, loader, optimiser, loss (partial cross-entropy) and device, in one process,
alternating by epoch; the ratio is the median over the rounds, of wall time and, on a CPU, of CPU time, which other load
disturbs less. CPU time does not include loader workers. The parts are timed separately:
reading and preparing an image, the random transforms of an image, forward, backward and optimiser of a
batch, and, by `cvm-monai doctor`'s dry run, the renewal of a pseudo-label and the record of an epoch.
"""

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

TRAIN = Path(__file__).resolve().parents[1] / "bundle" / "configs" / "train.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--network", default="resnet34_unet")
    parser.add_argument("--cases", type=int, default=24, help="images of the phantom, about half of them train")
    parser.add_argument("--size", type=int, default=128, help="their side in pixels")
    parser.add_argument("--crop_size", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--amp", action="store_true", help="mixed precision in both")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2], help="loader workers (default 0 1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each of the two")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.disable(logging.WARNING)  # MONAI tells of its own workflow
    with tempfile.TemporaryDirectory() as folder:
        data = phantom(Path(folder) / "data", arguments)
        knobs = {name: getattr(arguments, name) for name in ("network", "crop_size", "batch_size", "device", "amp")}
        print("| workers | bare images/s | trainer images/s | ratio | lowest to highest | by processor's time |")
        print("|---|---|---|---|---|---|")
        for workers in arguments.workers:
            print(compare(data, Path(folder), knobs, workers, arguments.rounds), flush=True)
        print("\n| part | ms | for |\n|---|---|---|")
        for line in parts(data, Path(folder), knobs):
            print(line, flush=True)


def phantom(folder: Path, arguments: argparse.Namespace) -> Path:
    """The data set of both."""
    from cvm_monai.data.phantom import generate_phantom
    from cvm_monai.data.prepare import prepare

    generate_phantom(folder, cases=arguments.cases, size=arguments.size, seed=0)
    prepare(folder, out=folder, pairs=5, folds=4)
    return folder


def training(data: Path, folder: Path, knobs: dict[str, Any], workers: int) -> Any:
    """The parser of the bundle's training; its trainer computes means of an epoch, and neither validates nor logs."""
    from cvm_monai.doctor.workflow import opened

    place = {"dataset_dir": str(data), "output_dir": str(folder / "run"), "tracking_uri": "none"}
    changes = {"supervision": "partial_ce", "num_workers": workers, **knobs, **place}
    changes["train#handlers"] = [{"_target_": "cvm_monai.engines.EpochMeans"}]
    return opened(TRAIN, changes).parser


def compare(data: Path, folder: Path, knobs: dict[str, Any], workers: int, rounds: int) -> str:
    """One line: the two turn by turn, each after an epoch that warms up."""
    parser = training(data, folder, knobs, workers)
    trainer = parser.get_parsed_content("train#trainer")
    images = len(parser.get_parsed_content("train#dataset"))
    trainer.state.max_epochs = 0

    def ours() -> None:
        trainer.state.max_epochs += 1
        trainer.run()

    bare = bare_epoch(parser)
    ours(), bare()
    pairs = []
    for turn in range(rounds):
        first, second = (bare, ours) if turn % 2 else (ours, bare)
        one, other = timed(first), timed(second)
        pairs.append((other, one) if turn % 2 else (one, other))
    ratios = sorted(plain[0] / whole[0] for whole, plain in pairs)
    processor = "" if knobs["device"] != "cpu" else f"{median(plain[1] / whole[1] for whole, plain in pairs):.3f}"
    rates = [images / median(pair[index][0] for pair in pairs) for index in (1, 0)]
    return (
        f"| {workers} | {rates[0]:.2f} | {rates[1]:.2f} | {median(ratios):.3f} | {ratios[0]:.3f} to {ratios[-1]:.3f} "
        f"| {processor} |"
    )


def bare_epoch(parser: Any) -> Callable[[], None]:
    """An epoch as one would write it by hand."""
    import torch
    from torch.nn.functional import cross_entropy

    network, optimizer = parser.get_parsed_content("net"), parser.get_parsed_content("optimizer")
    loader, amp = parser.get_parsed_content("train#dataloader"), parser.get_parsed_content("amp")
    device = torch.device(parser.get_parsed_content("device"))
    scaler = torch.amp.GradScaler("cuda", enabled=amp and device.type == "cuda")

    def epoch() -> None:
        network.train()
        total = 0.0
        for batch in loader:
            image, label = batch["image"].to(device), batch["label"][:, 0].long().to(device)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, enabled=amp):
                loss = cross_entropy(network(image), label, ignore_index=255)
            total += loss.item()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return epoch


def parts(data: Path, folder: Path, knobs: dict[str, Any]) -> list[str]:
    """Where the time goes: each part by itself."""
    from cvm_monai.doctor.rehearsal import rehearse

    parser = training(data, folder, knobs, workers=0)
    dataset, load = parser.get_parsed_content("train#dataset"), parser.get_parsed_content("load")
    lines = [row("read and prepare", often(lambda: load(dataset.data[0])), "image, once")]
    lines.append(row("random transforms", often(lambda: dataset[0]), "image"))
    lines += network_parts(parser)
    tracking = {} if find_spec("mlflow") else {"tracking_uri": "none"}
    found = rehearse(TRAIN, dataset=data, knobs=knobs | tracking | {"supervision": "cvm"})
    names = {"training step": "whole step, cvm", "validation": "validation", "renewal": "renewal", "record": "record"}
    lines += [row(names[stage.name], stage.seconds, stage.unit) for stage in found.stages if stage.name in names]
    return lines


def network_parts(parser: Any) -> list[str]:
    """Forward, backward and optimiser of one batch."""
    import torch
    from torch.nn.functional import cross_entropy

    network, optimizer = parser.get_parsed_content("net").train(), parser.get_parsed_content("optimizer")
    device, amp = torch.device(parser.get_parsed_content("device")), parser.get_parsed_content("amp")
    batch = next(iter(parser.get_parsed_content("train#dataloader")))
    image, label = batch["image"].to(device), batch["label"][:, 0].long().to(device)
    times: dict[str, list[float]] = {"forward and loss": [], "backward": [], "optimiser": []}

    def stamp() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(6):
        optimizer.zero_grad(set_to_none=True)
        marks = [stamp()]
        with torch.autocast(device.type, enabled=amp):
            loss = cross_entropy(network(image), label, ignore_index=255)
        marks.append(stamp())
        loss.backward()
        marks.append(stamp())
        optimizer.step()
        marks.append(stamp())
        for index, seconds in enumerate(times.values()):
            seconds.append(marks[index + 1] - marks[index])
    return [row(name, median(seconds[1:]), f"batch of {len(image)}") for name, seconds in times.items()]


def row(name: str, seconds: float, unit: str) -> str:
    """A line of the table of parts."""
    return f"| {name} | {1000 * seconds:.1f} | {unit} |"


def often(work: Callable[[], Any], times: int = 10) -> float:
    """Median seconds."""
    work()
    return median(timed(work)[0] for _ in range(times))


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor in all threads of this process."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


if __name__ == "__main__":
    main()
