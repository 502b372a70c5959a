"""From the cost of a few images to that of a whole training."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Stage:
    """What one part of a training cost in the dry run.

    Attributes:
        name: of the part.
        seconds: of one `unit`, warm where it comes again and again.
        unit: what is counted.
        memory_mib: the most main memory that the process held until the part was over, since the one before.
        gpu_mib: the most memory that torch held on the GPU; None on a processor.
    """

    name: str
    seconds: float
    unit: str
    memory_mib: float
    gpu_mib: float | None = None


@dataclass(frozen=True)
class Counts:
    """How often the real training does each thing.

    Attributes:
        train_images: it trains on.
        validation_images: it is validated on.
        batch_size: images of one step of the optimiser.
        max_epochs: passes over the training images.
        val_interval: epochs between validations.
        renews: whether the method makes pseudo-labels, and whether only once.
        renew_from: epoch before which none are made.
        renew_every: epochs after which they are made even without a new low; 0: never.
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

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return ceil(self.train_images / self.batch_size)

    @property
    def validations(self) -> int:
        """Validations of the training."""
        return self.max_epochs // self.val_interval

    @property
    def renewals(self) -> tuple[int, int]:
        """The fewest and the most: at one new low that counts, and those that are due; and at every validation."""
        if not self.renews:
            return 0, 0
        first = max(1, self.renew_from)
        most = self.validations - (first - 1) // self.val_interval
        most = max(0, min(most, 1) if self.renews_once else most)
        waited = self.max_epochs - self.renew_from
        due = waited // self.renew_every + (self.renew_from > 0) if self.renew_every and waited >= 0 else 0
        return min(max(1, due), most), most


@dataclass(frozen=True)
class Costs:
    """Seconds and bytes of one of each, as the dry run measured them.

    Attributes:
        fixed: imports, network, tracking store, last figures.
        stain: reading one training image for the normalisation of stains.
        read: one image read and prepared for the cache.
        workers: what the first step of an epoch costs more than the others: loader workers start.
        record: what is written after an epoch: scores, checkpoint.
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
    """Seconds of the whole training with the fewest and with the most renewals.

    A training that stops being better early renews seldom, one that improves to the end renews at each validation.
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


def table(stages: Sequence[Stage]) -> str:
    """The stages as lines of text."""
    gpu = any(stage.gpu_mib is not None for stage in stages)
    width = max(len(stage.name) for stage in stages)
    per = max(len(stage.unit) for stage in stages)
    lines = [f"{'stage':{width}}  {'seconds':>8}  {'for':{per}}  {'memory':>10}" + ("  GPU memory" if gpu else "")]
    for stage in stages:
        line = f"{stage.name:{width}}  {stage.seconds:8.3f}  {stage.unit:{per}}  {stage.memory_mib:6.0f} MiB"
        lines.append(line + (f"  {stage.gpu_mib or 0:6.0f} MiB" if gpu else ""))
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Seconds in words: `40 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
