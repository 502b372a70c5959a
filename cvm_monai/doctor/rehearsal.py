"""Dry run: train the bundle on a few images in a temporary folder, and estimate the cost of the real training."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from monai.bundle import ConfigParser

from cvm_monai.bundle_files import as_entry, config_file
from cvm_monai.data.cache import bytes_of
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.fold_parts import case_record, case_records
from cvm_monai.data.folds import case_labels, check_trainable, split, teaches
from cvm_monai.doctor.estimate import Costs, Counts, Stage, cache_mib, cache_words, seconds
from cvm_monai.doctor.stopwatch import MemoryMeter, Stopwatch
from cvm_monai.doctor.workflow import opened, reason, tidy
from cvm_monai.engines.renewal_plan import RenewalPlan, pixels_of
from cvm_monai.errors import CvmError
from cvm_monai.files import temporary_folder
from cvm_monai.runs.store import sqlite_address

EPOCHS = 2
"""Number of epochs. The first one warms up (workers start, kernels are chosen); the second is measured."""
STEPS = 3
"""Number of steps of each epoch."""
ASKED = ("max_epochs", "val_interval", "renew_from", "renew_every", "renew_share")
"""Knobs that the dry run changes and the estimate needs."""
IMAGES = 4
"""Number of images that are read."""


@dataclass(frozen=True)
class Rehearsal:
    """Estimate of the real training from the dry run.

    Attributes:
        stages: cost of each part.
        counts: how often the real training runs each part.
        fewest, most: seconds of the real training with the fewest and most renewals, see `Counts.renewals`.
        memory_mib: peak main memory of the real training's process.
        gpu_mib: peak memory on the GPU; None on a CPU.
        device: of the dry run.
        images: where its decoded images will be, in words.
    """

    stages: tuple[Stage, ...]
    counts: Counts
    fewest: float
    most: float
    memory_mib: float
    gpu_mib: float | None
    device: str
    images: str = ""


def few_records(*, dataset_dir: str, fold: int, seed: int, images: int = IMAGES, length: int = IMAGES) -> list[Any]:
    """Return records of the first few training images with points of both classes, repeated to `length`.

    Raises:
        CvmError: as `read_datalist` and `split`; no image has points of both classes.
    """
    datalist = read_datalist(dataset_dir)
    parts = split(datalist, fold=fold, seed=seed)
    check_trainable(parts)
    teaching = (case for case in parts.train if teaches(case_labels(case, datalist.classes)))
    records = [case_record(case, datalist.classes) for case in islice(teaching, images)]
    return [records[index % len(records)] for index in range(length)]


def rehearse(config: Path, *, dataset: Path, knobs: Mapping[str, Any]) -> Rehearsal:
    """Train two epochs of three steps with the bundle's own trainer, validate, renew, segment one image; estimate.

    Everything is written into a temporary folder that is removed; the tracking store is a database in it, unless the
    requested store is `none`. A GPU's memory is what torch reserves. The seconds that Python takes to
    import the packages are not counted.

    Args:
        config: the training's configuration, in a bundle's `configs/` beside that of `inference`.
        dataset: folder with a data list; only read.
        knobs: values of the configuration, by name.

    Raises:
        CvmError: any input that the training itself would refuse.
        SystemExit: with 2, where the bundle's own checks refuse and have printed an error.
    """
    began = time.perf_counter()
    with tidy(), temporary_folder("cvm-monai-doctor-") as folder:
        tracking = "none" if knobs.get("tracking_uri") == "none" else sqlite_address(Path(folder) / "mlruns.db")
        place = {
            "dataset_dir": as_entry(dataset.resolve()),
            "output_dir": as_entry(folder),
            "tracking_uri": tracking,
            "resume": "never",
        }
        asked: dict[str, Any] = {}
        with _built(config):
            workflow = opened(config, {**knobs, **place}, trim=lambda parser: asked.update(_trim(parser)))
            with import_module("scripts.errors").exit_on_error():
                run = _Run(workflow.parser, asked, began)
                run.prepare()
        with import_module("scripts.errors").exit_on_error():
            run.train()
            run.infer(config_file(config.parent, "inference"), place)
    return run.result()


@contextmanager
def _built(config: Path) -> Iterator[None]:
    """Convert any exception of MONAI while a training is built from a configuration into a CvmError."""
    try:
        yield
    except Exception as error:
        raise CvmError(
            f"{config} does not describe a training that can be built: {reason(error)}; correct the file, or the knob"
        ) from error


def _trim(parser: ConfigParser) -> dict[str, Any]:
    """Reduce the training to a few images and epochs; returns the changed values of the real training."""
    asked = {name: parser[name] for name in ASKED}
    where = {"dataset_dir": "@dataset_dir", "fold": "@fold", "seed": "@seed"}
    few = {"_target_": "cvm_monai.doctor.rehearsal.few_records", **where}
    images = {"length": f"$@batch_size * @accumulation_steps * {STEPS}"}
    parser["train"]["dataset"] |= {"data": few | images, "hash_as_key": True}
    renewal = parser["renewal_dataset"]
    cached: dict[str, Any] = {"_target_": "cvm_monai.data.epochs.SeededCacheDataset", "data": few, "seed": "@seed"}
    cached |= {"transform": "@train#preprocessing", "num_workers": 1, "progress": False}
    renewal |= {"dataset": cached} if "dataset" in renewal else {"data": few}
    parser["validate"]["dataset"]["cache_num"] = 2
    validation = parser["validate"]["dataset"]["data"]
    parser["validate"]["dataset"]["data"] = {"_target_": "cvm_monai.doctor.rehearsal.first", "records": validation}
    rule = {"renew_from": 0, "renew_every": 1, "renew_below": None, "renew_share": None}
    parser.update({"max_epochs": EPOCHS, "val_interval": 1, "restarts": 0, **rule})
    return asked


def first(records: list[Any], count: int = 2) -> list[Any]:
    """Return the first few elements of a list."""
    return records[:count]


class _Run:
    """One dry run, in parts."""

    def __init__(self, parser: ConfigParser, asked: Mapping[str, Any], began: float) -> None:
        self.parser, self.asked = parser, asked
        self.device = torch.device(self._get("device"))
        self.stages: list[Stage] = []
        self._get("net")
        self.meter = MemoryMeter(self.device)
        self.fixed = time.perf_counter() - began
        self.stain = self.read = 0.0

    def _get(self, name: str) -> Any:
        return self.parser.get_parsed_content(name)

    def _timed(self, name: str) -> float:
        """Build a part of the configuration; returns the seconds it took."""
        start = time.perf_counter()
        self._get(name)
        return time.perf_counter() - start

    def prepare(self) -> None:
        """Read images into the caches and build the trainer."""
        self.stages.append(Stage("set-up", self.fixed, "once", *self.meter.look()))
        if self._get("stain_normalisation") != "none":
            used = len({record["case_id"] for record in few_records(**self._where(), length=IMAGES)})
            self.stain = self._timed("stain_target") / used
            self.stages.append(Stage("fit stains", self.stain, "image", *self.meter.look()))
        taken = self._timed("train#dataset") + self._timed("renewal_dataset")
        renewal = self._get("renewal_dataset")
        held = (self._get("train#dataset"), getattr(renewal, "dataset", renewal))
        self.read = taken / sum(len(dataset._cache) for dataset in held)
        self.stages.append(Stage("read images", self.read, "image", *self.meter.look()))
        self._get("validate#dataset")
        start = time.perf_counter()
        self.trainer, self.evaluator = self._get("train#trainer"), self._get("validate#evaluator")
        self.fixed += time.perf_counter() - start

    def _where(self) -> dict[str, Any]:
        return {name: self._get(name) for name in ("dataset_dir", "fold", "seed")}

    def train(self) -> None:
        """Run the trainer to its end with the stopwatch beside it."""
        self.method = self._get("method")
        self.watch = Stopwatch(self.trainer, self.evaluator, self.method.renews or None, self.meter)
        start = time.perf_counter()
        with redirect_stdout(StringIO()):
            self.trainer.run()
        self.fixed += time.perf_counter() - start - sum(self.watch.epochs)
        self.fixed += max(0.0, self.watch.epochs[0] - self.watch.epochs[-1])

    def infer(self, config: Path, place: Mapping[str, Any]) -> None:
        """Segment one image as `inference` does."""
        image = self._get("train#dataset").data[0]["image"]
        device = str(self.device)
        changes = {"dataset_dir": place["dataset_dir"], "output_dir": place["output_dir"], "device": device}
        workflow = opened(config, {**changes, "images": [image], "image_mpp": self._get("mpp")})
        self.meter.look()
        start = time.perf_counter()
        workflow.parser.get_parsed_content("evaluator").run()
        taken = time.perf_counter() - start
        self.inference = Stage("inference", taken, "image", *self.meter.look())

    def result(self) -> Rehearsal:
        """Compute the stages and the estimate."""
        counts, costs, watch = self._counts(), self._costs(), self.watch
        step = Stage("training step", costs.step, f"batch of {counts.batch_size}", *watch.memory["training step"])
        validation = Stage("validation", costs.validate, "image", *watch.memory["validation"])
        stages = [*self.stages, step, validation]
        if watch.renewals:
            stages.append(Stage("renewal", costs.renew, "image", *watch.memory["renewal"]))
        stages += [Stage("record", costs.record, "epoch", *watch.memory["validation"]), self.inference]
        fewest, most = seconds(costs, counts)
        held = (len(self._get("train#dataset")._cache), len(self._get("validate#dataset")._cache))
        limit = self._get("cache_budget").limit
        memory = self.meter.most + min(cache_mib(costs, counts, held=held), limit / 2**20)
        gpu = None if self.meter.gpu is None else self.meter.most_gpu
        images = cache_words(costs, counts, limit=limit)
        return Rehearsal(tuple(stages), counts, fewest, most, memory, gpu, str(self.device), images)

    def _counts(self) -> Counts:
        where = self._where()
        train, validation = (len(case_records(part=part, **where)) for part in ("train", "validation"))
        share, validated = self.asked["renew_share"], validation / train / self.asked["val_interval"]
        plan = RenewalPlan(share=share, crop_size=self._get("crop_size"), validated=validated)
        pixels = pixels_of(self._get("renewal_dataset"))
        return Counts(
            train_images=train,
            validation_images=validation,
            batch_size=self._get("batch_size") * self._get("accumulation_steps"),
            max_epochs=self.asked["max_epochs"],
            val_interval=self.asked["val_interval"],
            renews=self.method.renews,
            renews_once=self.method.renews_once,
            renew_from=self.asked["renew_from"],
            renew_every=self.asked["renew_every"],
            renew_limit=None if share is None else plan.most(pixels, epochs=self.asked["max_epochs"]),
        )

    def _costs(self) -> Costs:
        watch = self.watch
        steps = watch.steps[-1]
        step = median(steps[1:])
        renewing = watch.renewals[-1] if watch.renewals else (0.0, 0.0)
        in_last = renewing[1] if len(watch.renewals) == EPOCHS else 0.0
        record = watch.after_steps[-1] - watch.validations[-1] - in_last
        train, renewal, validation = (self._get(f"{name}") for name in DATASETS)
        return Costs(
            fixed=self.fixed,
            stain=self.stain,
            read=self.read,
            workers=max(0.0, steps[0] - step),
            record=record,
            step=step,
            validate=watch.validations[-1] / len(validation),
            renew=renewing[0] / len(renewal),
            renewal=renewing[1] - renewing[0],
            cached_train=bytes_of(train.item(0)),
            cached_validation=bytes_of(validation.item(0)),
        )


DATASETS = ("train#dataset", "renewal_dataset", "validate#dataset")
