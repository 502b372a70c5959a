"""Decide whether a new version replaces the champion: compare one test value on the same test images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cvm_monai.errors import CvmError
from cvm_monai.metrics.claims import ClaimName
from cvm_monai.metrics.segmentation import MetricName
from cvm_monai.metrics.stain_shifts import STAIN_NAMES
from cvm_monai.registry.store import find_alias
from cvm_monai.registry.trained import TEST, Trained

CHAMPION = "champion"
Better = Literal["higher", "lower", "closer to 1"]
BETTER: Mapping[MetricName | ClaimName, Better] = {
    "dice": "higher",
    "accuracy": "higher",
    "precision": "higher",
    "kappa": "higher",
    "auc": "higher",
    "object_dice": "higher",
    "object_f1": "higher",
    "novel_fpr": "lower",
    "hd95_px": "lower",
    "hd95_um": "lower",
    "ece": "lower",
    "brier": "lower",
    "pieces": "closer to 1",
    "region_ratio": "closer to 1",
    "boundary_ratio": "closer to 1",
}
POINTS: Mapping[str, Better] = {
    "point_balanced_accuracy": "higher",
    "point_recall": "higher",
    "point_cross_entropy": "lower",
}
"""Metrics of a test without masks."""
SHIFTED = re.compile(rf"stain_(lowest|({'|'.join(STAIN_NAMES)})_[^_]+)_(?=dice$)")
"""Prefixes of `dice` in a test under stain shifts; higher is better, as for the Dice itself."""


@dataclass(frozen=True)
class Metric:
    """A test value's recorded name, such as `test_dice`, and whether higher or lower is better."""

    name: str
    better: Better

    def beats(self, value: float, other: float) -> bool:
        """Whether `value` is strictly better than `other`."""
        return self._merit(value) > self._merit(other)

    def _merit(self, value: float) -> float:
        return {"higher": value, "lower": -value, "closer to 1": -abs(value - 1)}[self.better]


@dataclass(frozen=True)
class Champion:
    """The version that the alias points at now, and its recorded facts."""

    version: str
    tests: Mapping[str, float]
    data_sha256: str | None
    fold: str | None


@dataclass(frozen=True)
class Decision:
    """Whether the new version is promoted, and the message about it."""

    promoted: bool
    sentence: str


def find_metric(name: str, *, tests: Mapping[str, float], classes: Sequence[str]) -> Metric:
    """Find the recorded metric of a name, with or without `test_`.

    Raises:
        CvmError: no such recorded value, or one that has no better direction, such as a deviation.
    """
    full = name if name.startswith(TEST) else TEST + name
    usable = {found: kind for found in sorted(tests) if (kind := _kind(found, classes)) is not None}
    if full not in tests:
        raise CvmError(f"--promote_if_better {name}: the evaluation recorded no {full}; choose {_listed(usable)}")
    if full not in usable:
        raise CvmError(
            f"--promote_if_better {name}: neither a higher nor a lower {full} is better; choose {_listed(usable)}"
        )
    return Metric(full, usable[full])


def check_comparable(metric: Metric, champion: Champion | None, *, trained: Trained, name: str) -> None:
    """Refuse to compare test values of different images.

    Raises:
        CvmError: other data, another fold, or a champion without that value.
    """
    if champion is None:
        return
    current, remedy = f"the champion, {name} version {champion.version},", "register without --promote_if_better"
    if champion.data_sha256 != trained.record.get("data_sha256"):
        raise CvmError(
            f"{current} was tested on other data (data list {_short(champion.data_sha256)}, here "
            f"{_short(trained.record.get('data_sha256'))}): test both on the same, or {remedy}"
        )
    if champion.fold != trained.fold:
        raise CvmError(
            f"{current} was tested on fold {champion.fold}, this training on fold {trained.fold}, which are other "
            f"images: train on that fold, or {remedy}"
        )
    if metric.name not in champion.tests:
        raise CvmError(f"{current} has no {metric.name}: evaluate it again, or {remedy}")


def decide(metric: Metric, value: float, champion: Champion | None, *, name: str, version: str) -> Decision:
    """Compare the value of the new version with the champion's."""
    found = f"{metric.name} {value:.4g}"
    if champion is None:
        return Decision(True, f"{name} version {version} is the first {CHAMPION} ({found}).")
    other = f"{champion.tests[metric.name]:.4g} of version {champion.version} on the same data"
    promoted = metric.beats(value, champion.tests[metric.name])
    if promoted:
        return Decision(
            True, f"{name} version {version} is the new {CHAMPION}: its {found} is {metric.better} than {other}."
        )
    return Decision(
        False,
        f"version {champion.version} stays {CHAMPION}: {found} of the new {name} version {version} is not "
        f"{metric.better} than {other}.",
    )


def find_champion(client: Any, name: str) -> Champion | None:
    """Find the version of the model `name` that has the alias; None where there is no such model or alias."""
    found = find_alias(client, name, CHAMPION)
    if found is None:
        return None
    run = client.get_run(found.run_id)
    return Champion(
        version=str(found.version),
        tests={key: value for key, value in run.data.metrics.items() if key.startswith(TEST)},
        data_sha256=run.data.tags.get("data_sha256"),
        fold=run.data.params.get("fold"),
    )


def _kind(full: str, classes: Sequence[str]) -> Better | None:
    """Return whether higher or lower is better, from the metric in a recorded name."""
    base = full.removeprefix(TEST).removeprefix("pooled_").removesuffix("_median")
    base = SHIFTED.sub("", base)
    for name, better in BETTER.items():
        if base == name or base in (f"{name}_{label}" for label in classes[1:]):
            return better
    for point_name, better in POINTS.items():
        if base == point_name or base in (f"{point_name}_{label}" for label in classes):
            return better
    return None


def _listed(usable: Mapping[str, Better]) -> str:
    pooled_last = sorted(usable, key=lambda name: (name.startswith(f"{TEST}pooled_"), name))
    return ", ".join(pooled_last) or "none: there is none"


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "unknown"
