"""Estimate the cost of a whole training from that of a few images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from cvm_monai.free_memory import gib


@dataclass(frozen=True)
class Stage:
    """Measured cost of one part of a training in the dry run.

    Attributes:
        name: of the part.
        seconds: per `unit`, without the first one where the part repeats.
        unit: name of what is counted.
        memory_mib: peak main memory of the process during the part.
        gpu_mib: peak memory of torch on the GPU; None on a CPU.
    """

    name: str
    seconds: float
    unit: str
    memory_mib: float
    gpu_mib: float | None = None


@dataclass(frozen=True)
class Counts:
    """Numbers of images, epochs, validations and renewals of the real training.

    Attributes:
        train_images: number of training images.
        validation_images: number of validation images.
        batch_size: images per optimiser step.
        max_epochs: passes over the training images.
        val_interval: epochs between validations.
        renews: whether the method computes pseudo-labels, and whether only once.
        renew_from: first epoch with pseudo-labels.
        renew_every: epochs after which they are renewed even without a new low; 0: never.
        renew_limit: most renewals at new lows that the plan pays for; None: no limit.
    """

    train_images: int
    validation_images: int
    batch_size: int
    max_epochs: int
    val_interval: int = 1
    renews: bool = False
    renews_once: bool = False
    renew_from: int = 0
    renew_every: int = 0
    renew_limit: int | None = None

    @property
    def steps(self) -> int:
        """Number of optimiser steps of an epoch."""
        return ceil(self.train_images / self.batch_size)

    @property
    def validations(self) -> int:
        """Number of validations of the training."""
        return self.max_epochs // self.val_interval

    @property
    def renewals(self) -> tuple[int, int]:
        """Fewest and most renewals: one new low and the scheduled ones, or a renewal at every validation."""
        if not self.renews:
            return 0, 0
        first = max(1, self.renew_from)
        most = self.validations - (first - 1) // self.val_interval
        most = max(0, min(most, 1) if self.renews_once else most)
        waited = self.max_epochs - self.renew_from
        due = waited // self.renew_every + (self.renew_from > 0) if self.renew_every and waited >= 0 else 0
        if self.renew_limit is not None:
            most = min(most, self.renew_limit + due)
        return min(max(1, due), most), most


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of each single step, measured by the dry run.

    Attributes:
        fixed: imports, network, tracking store, last figures.
        stain: reading one training image for the stain normalisation.
        read: one image read and prepared for the cache.
        workers: extra cost of an epoch's first step, when loader workers start.
        record: writing scores and checkpoint after an epoch.
        step: one optimiser step, loading included.
        validate: one validation image.
        renew: the pseudo-label of one training image.
        renewal: what a renewal costs beside its images: the record and its figure.
        cached_train, cached_validation: bytes of one image in each cache.
    """

    fixed: float
    stain: float
    read: float
    workers: float
    record: float
    step: float
    validate: float
    renew: float
    renewal: float
    cached_train: int
    cached_validation: int


def seconds(costs: Costs, counts: Counts) -> tuple[float, float]:
    """Estimate the seconds of the whole training with the fewest and with the most renewals.

    A training that stops improving early renews seldom; one that improves to the end renews at each validation.
    """
    reading = costs.read * (counts.train_images + counts.validation_images) + costs.stain * counts.train_images
    epochs = counts.max_epochs * (costs.workers + costs.record + counts.steps * costs.step)
    validations = counts.validations * counts.validation_images * costs.validate
    base = costs.fixed + reading + epochs + validations
    each = costs.renewal + counts.train_images * costs.renew
    few, many = counts.renewals
    return base + few * each, base + many * each


def cache_mib(costs: Costs, counts: Counts, *, held: tuple[int, int]) -> float:
    """MiB that the caches of the real training hold beyond those of the dry run, which held so many images of each."""
    train, validation = held
    more = (counts.train_images - train) * costs.cached_train
    more += (counts.validation_images - validation) * costs.cached_validation
    return max(0, more) / 2**20


def cache_words(costs: Costs, counts: Counts, *, limit: float) -> str:
    """Say how many of the training's decoded images are held in memory, of a limit in bytes, and how many on disk."""
    left, held = limit, 0
    for count, size in ((counts.train_images, costs.cached_train), (counts.validation_images, costs.cached_validation)):
        fit = min(count, int(min(left / max(size, 1), count)))
        held, left = held + fit, left - fit * size
    count = counts.train_images + counts.validation_images
    whole = counts.train_images * costs.cached_train + counts.validation_images * costs.cached_validation
    if held == count:
        return f"all {count} decoded images are held in memory, {gib(whole)}"
    return f"{held} of {count} decoded images are held in memory, the others in output_dir/cache: {gib(whole)} in all"


def table(stages: Sequence[Stage]) -> str:
    """Format the stages as lines of text."""
    gpu = any(stage.gpu_mib is not None for stage in stages)
    width = max(len(stage.name) for stage in stages)
    per = max(len(stage.unit) for stage in stages)
    lines = [f"{'stage':{width}}  {'seconds':>8}  {'for':{per}}  {'memory':>10}" + ("  GPU memory" if gpu else "")]
    for stage in stages:
        line = f"{stage.name:{width}}  {stage.seconds:8.3f}  {stage.unit:{per}}  {stage.memory_mib:6.0f} MiB"
        lines.append(line + (f"  {stage.gpu_mib or 0:6.0f} MiB" if gpu else ""))
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Format seconds as `40 s`, `3 min 20 s` or `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
