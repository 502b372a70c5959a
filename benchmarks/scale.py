"""Measure what a training costs as its images grow in size, in points and in number, beside a named reference.

    python benchmarks/scale.py renewal --weights RUN/models/model.pt    128, 512 and 1024 px
    python benchmarks/scale.py points --weights RUN/models/model.pt     5 to 5000 pairs on 512 px
    python benchmarks/scale.py images --counts 100 1000 10000           memory and images per second of 1024 px

`renewal`: seconds of the processor for each image of a step (crops of 128 px), a validation and a renewal of the
default network, u on the grid that is chosen against u on every feature, and the share of renewals in 40 epochs with a
quarter as many validation images, where every validation is a new low: the most there can be; the reference renews at
each of them.
`points`: the renewal of one image by pairs; the reference has 5. `images`: peak memory and images per second of the
bundle's trainer with a narrow network on points alone; each is a process of its own, the reference holds everything.
The data list, its check, the data sets and the sampler have their full length, of which two epochs of `--reads` images
are trained on, the same ones in both, and a twentieth of that validates. Start is all before the first step.

Seconds are the processor's, of one thread, which other load disturbs less than the clock. The weights are those of a
default training on the phantom (`cvm-monai phantom`); without them u is that of a random network, and its Dice says
nothing.
"""

import argparse
import contextlib
import io
import itertools
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

TRAIN = Path(__file__).resolve().parents[1] / "bundle" / "configs" / "train.yaml"
EPOCHS, VALIDATED, CROP = 40, 0.25, 128
DRAWN = 4
"""Most images that are drawn for a large data set; the others are these, rolled."""
NARROW = [8, 8, 8, 8, 8]
PLACES = {"image": "images", "points": "points", "mask": "masks"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("renewal", "points", "images", "one"))
    parser.add_argument("--weights", help="of resnet34_unet, trained on the phantom")
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 512, 1024])
    parser.add_argument("--cases", type=int, default=3, help="images of each size")
    parser.add_argument("--pairs", type=int, nargs="*", default=[5, 50, 500, 5000])
    parser.add_argument("--combination", default="pooled", help="of points: pooled, max, vote or mean (default pooled)")
    parser.add_argument("--counts", type=int, nargs="*", default=[100, 1000, 10000], help="images of 1024 px")
    parser.add_argument("--different", type=int, default=200, help="of these images, the others are hard links")
    parser.add_argument("--reads", type=int, default=400, help="most images of an epoch; 5 MiB of disk each")
    parser.add_argument("--cache", type=float, default=0.25, help="GiB, against everything held")
    parser.add_argument("--held", type=int, default=300, help="most images that the reference holds")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    {"renewal": renewal, "points": points, "images": images, "one": one_training}[arguments.what](arguments)


def spent(work: Callable[[], Any], times: int = 1) -> tuple[float, Any]:
    """Median seconds of the processor, and the last result."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        result = work()
        taken.append(time.process_time() - start)
    return median(taken), result


class Images:
    """Images of the phantom of one size, through the default network."""

    def __init__(self, size: int, *, cases: int, weights: str | None) -> None:
        import torch

        from cvm_monai.data.phantom import draw_case, draw_patient
        from cvm_monai.networks import build_network
        from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD

        torch.set_num_threads(1)
        self.network = build_network("resnet34_unet", out_channels=2)
        if weights:
            self.network.load_state_dict(torch.load(weights, weights_only=True))
        self.network.eval()
        rng = np.random.default_rng(1)
        drawn = [draw_case(size, draw_patient(str(number), rng), rng) for number in range(cases)]
        mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.images = [((torch.from_numpy(case.image).permute(2, 0, 1) / 255 - mean) / std)[None] for case in drawn]
        self.masks = [case.mask for case in drawn]

    def features(self, index: int) -> tuple[float, Any, Any]:
        """Seconds of a pass, logits and features."""
        import torch

        with torch.no_grad():
            seconds, (logits, features) = spent(lambda: self.network.features(self.images[index]))
        return seconds, logits, features

    def points(self, index: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
        """So many random pixels of each class."""
        rng = np.random.default_rng(index)
        found = [np.argwhere(self.masks[index] == wanted) for wanted in (True, False)]
        inside, outside = (part[rng.permutation(len(part))[:pairs]] for part in found)
        return inside, outside

    def u(
        self, index: int, logits: Any, features: Any, pairs: int, spacing: int | None, combination: Any = "pooled"
    ) -> tuple[float, np.ndarray]:
        """Seconds of evidence and solve, and u on the image's grid, as a renewal computes it."""
        from cvm_monai.supervision.cvm import ContrastVariational
        from cvm_monai.variational.grid import coarser, on_full_grid, spacing_for

        shape = self.masks[index].shape
        step = spacing_for(shape, spacing)
        inside, outside = (part // step for part in self.points(index, pairs))

        def work() -> np.ndarray:
            method = ContrastVariational(combination=combination)
            maps = method.evidence(coarser(logits, step)[0], coarser(features, step)[0], inside, outside)
            found = method.pseudo_labels([maps], spacings=[step])[0].u
            return np.zeros(shape) if found is None else on_full_grid(found, shape)

        return spent(work)

    def dice(self, index: int, u: np.ndarray) -> float:
        mask = self.masks[index]
        return float(2 * ((u > 0.5) & mask).sum() / max(1, (u > 0.5).sum() + mask.sum()))


def renewal(arguments: argparse.Namespace) -> None:
    """Share of renewals, seconds and Dice of u by size and grid."""
    from cvm_monai.engines import RenewalPlan

    step = step_seconds()
    print(f"a step takes {step:.3f} s for an image\n")
    print(
        "| px | validation s | u s, full grid | u s | Dice, full grid | Dice | renewals | share | share at every low |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for size in arguments.sizes:
        data, rows = Images(size, cases=arguments.cases + 1, weights=arguments.weights), []
        for index in range(arguments.cases + 1):
            forward, logits, features = data.features(index)
            found = [data.u(index, logits, features, 5, spacing) for spacing in (1, None)]
            rows.append([forward, *(seconds for seconds, _ in found), *(data.dice(index, u) for _, u in found)])
        forward, full, coarse, *scores = np.mean(rows[1:], axis=0)  # the first one warms up
        plan = RenewalPlan(share=0.12, crop_size=CROP, validated=VALIDATED)
        epochs = EPOCHS * (step + VALIDATED * forward)
        counts = plan.most([size**2], epochs=EPOCHS), EPOCHS
        costs = counts[0] * (forward + coarse), counts[1] * (forward + full)
        shares = [cost / (cost + epochs) for cost in costs]
        print(
            f"| {size} | {forward:.3f} | {full:.3f} | {coarse:.3f} | {scores[0]:.4f} | {scores[1]:.4f} | {counts[0]} "
            f"| {shares[0]:.3f} | {shares[1]:.3f} |",
            flush=True,
        )


def step_seconds() -> float:
    """Seconds of a training step of the default network for one image, crops of 128 px in batches of two."""
    import torch
    from torch.nn.functional import cross_entropy

    from cvm_monai.networks import build_network

    torch.set_num_threads(1)
    network = build_network("resnet34_unet", out_channels=2)
    optimizer = torch.optim.Adam(network.parameters())
    images, labels = torch.randn(2, 3, CROP, CROP), torch.zeros(2, CROP, CROP, dtype=torch.long)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(network(images), labels).backward()
        optimizer.step()

    step()
    return spent(step, 5)[0] / 2


def points(arguments: argparse.Namespace) -> None:
    """Seconds of the renewal of one image, and Dice of u, by pairs of points."""
    data, size = Images(512, cases=arguments.cases + 1, weights=arguments.weights), 512
    rows: dict[int, list[tuple[float, float, float]]] = {pairs: [] for pairs in arguments.pairs}
    for index in range(arguments.cases + 1):
        forward, logits, features = data.features(index)
        for pairs in arguments.pairs:
            seconds, u = data.u(index, logits, features, pairs, None, arguments.combination)
            rows[pairs].append((forward, seconds, data.dice(index, u)))
    print(f"{size} px\n\n| pairs | network s | u s | whole renewal, against {arguments.pairs[0]} pairs | Dice of u |")
    print("|---|---|---|---|---|")
    base = None
    for pairs, found in rows.items():
        forward, seconds, score = np.mean(found[1:], axis=0)
        base = base or forward + seconds
        print(f"| {pairs} | {forward:.3f} | {seconds:.3f} | {(forward + seconds) / base:.2f} | {score:.4f} |")
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


def images(arguments: argparse.Namespace) -> None:
    """Peak memory and images per second by number of images, with a bounded cache and with everything held."""
    print(
        "| images | different files | cache | held | start s | peak MiB | read | first time, images/s | again | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        rate = None
        for count in arguments.counts:
            many_cases(Path(folder) / "data", count, different=arguments.different)
            for cache in ([1e3] if count <= arguments.held else []) + [arguments.cache]:
                command = [sys.executable, __file__, "one", "--folder", folder, "--cache", str(cache)]
                command += ["--reads", str(arguments.reads)]
                found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
                rate = rate or (found["again"] if cache > 100 else None)
                ratio = f"{found['again'] / rate:.2f}" if rate else ""
                name = "everything" if cache > 100 else f"{cache:g} GiB"
                line = [count, min(count, arguments.different), name, found["held"], f"{found['start']:.1f}"]
                line += [f"{found['peak']:.0f}", found["read"], f"{found['first']:.2f}", f"{found['again']:.2f}", ratio]
                print(f"| {' | '.join(map(str, line))} |", flush=True)


def many_cases(folder: Path, count: int, *, size: int = 1024, different: int = 3, tested: int = 1) -> None:
    """A data set of so many images, some different, the others hard links; of those not tested a fifth validates.

    Called again with another number, it keeps the images that are there.
    """
    from cvm_monai.data.datalist import FILE_NAME, read_datalist, write_datalist
    from cvm_monai.data.phantom import generate_phantom
    from cvm_monai.data.prepare import prepare

    base = folder.parent / f"{folder.name}_different"
    if not base.is_dir():
        generate_phantom(base, cases=min(count, different, DRAWN), size=size, seed=0)
        if different > DRAWN:
            rolled(base, min(count, different))
        prepare(base, out=base, pairs=5, folds=3)
    cases, more = read_datalist(base).cases, []
    for number in range(count):
        case, name = cases[number % len(cases)], f"c{number:05d}"
        files = {kind: linked(getattr(case, kind), folder / place, name) for kind, place in PLACES.items()}
        more.append(replace(case, case_id=name, patient_id=f"p{number:05d}", fold=int(number >= tested), **files))
    write_datalist(folder / FILE_NAME, more)


def rolled(folder: Path, count: int) -> None:
    """Turn the images and masks of a phantom into so many, by rolling them; their points are sampled anew."""
    from PIL import Image

    rng, drawn = np.random.default_rng(0), sorted((folder / "images").iterdir())
    shutil.rmtree(folder / "novel")
    (folder / "cases.csv").unlink(missing_ok=True)
    for number in range(len(drawn), count):
        source = drawn[number % len(drawn)]
        shift = tuple(rng.integers(0, 1024, 2).tolist())
        for place in ("images", "masks"):
            pixels = np.roll(np.array(Image.open(folder / place / source.name)), shift, axis=(0, 1))
            Image.fromarray(pixels).save(folder / place / f"rolled_{number:05d}.png", compress_level=1)


def linked(file: Path, folder: Path, name: str) -> Path:
    """A second name of a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name + file.suffix)
    if not path.exists():
        os.link(file, path)
    return path


class FirstOf:
    """The first `count` indices of a shuffled data set, the same ones in every epoch."""

    def __init__(self, dataset: Any, *, seed: int, count: int) -> None:
        from torch.utils.data import DistributedSampler

        self.whole = DistributedSampler(dataset, num_replicas=1, rank=0, seed=seed)
        self.count = min(count, len(self.whole))

    def __iter__(self) -> Any:
        return itertools.islice(self.whole, self.count)

    def __len__(self) -> int:
        return self.count


def one_training(arguments: argparse.Namespace) -> None:
    """Two epochs and a validation of the bundle's trainer on points alone; prints a line of JSON."""
    from cvm_monai.doctor.workflow import opened

    folder, start = Path(arguments.folder), time.process_time()
    place = {"dataset_dir": str(folder / "data"), "output_dir": str(folder / "run"), "tracking_uri": "none"}
    knobs = {"supervision": "partial_ce", "network": "unet", "network_channels": NARROW, "cache": arguments.cache}
    parts: dict[str, Any] = {"train#handlers": [{"_target_": "cvm_monai.engines.EpochMeans"}], "validate#handlers": []}
    parts |= {"device": "cpu", "max_epochs": 1, "validate#evaluator#epoch_length": max(1, arguments.reads // 20)}
    order = {"_target_": "scale.FirstOf", "dataset": "@train#dataset", "seed": "@seed", "count": arguments.reads}
    parser = opened(TRAIN, {**place, **knobs, **parts, "train#sampler": order}).parser
    parser.get_parsed_content("cache_budget").make_folder(0)  # no more than --reads images will be written
    dataset, trainer = parser.get_parsed_content("train#dataset"), parser.get_parsed_content("train#trainer")
    evaluator, ready = parser.get_parsed_content("validate#evaluator"), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        first, _ = spent(trainer.run)
        trainer.state.max_epochs = 2
        again, _ = spent(trainer.run)
        evaluator.run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    read = min(len(dataset), arguments.reads)
    rates = {"first": read / first, "again": read / again, "read": read}
    print(json.dumps({**rates, "peak": peak, "held": dataset.cache_num, "start": ready - start}))


if __name__ == "__main__":
    main()
