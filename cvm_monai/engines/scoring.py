"""Test metrics: two classes by the probability of the target, more than two by the most probable class (argmax)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from cvm_monai.data.transforms import class_labels
from cvm_monai.errors import CvmError
from cvm_monai.files import write_text
from cvm_monai.metrics import (
    CLAIMS,
    IGNORED,
    CaseScores,
    ClaimScores,
    ClassScores,
    PooledClassScores,
    PooledScores,
    claims_markdown,
    class_metrics,
    class_summary_markdown,
    dice_score,
    macro_mean,
    object_labels,
    pool_claims,
    score_claims,
    score_classes,
    score_image,
    summarise,
    summarise_claims,
    summary_markdown,
    write_calibration_csv,
    write_per_case_csv,
    write_per_class_csv,
)
from cvm_monai.slides import read_mask

RESOLUTION = "the image's own resolution, the probability resized bilinearly to it"


class Scoring(Protocol):
    """Scores the logits of one image after the other, and reports tables and metrics."""

    @property
    def files(self) -> Sequence[str]:
        """Names of the files that `write` writes."""

    def update(self, record: dict[str, Any], logits: torch.Tensor) -> None:
        """Score an image whose record has a mask."""

    def dice(self) -> dict[str, float]:
        """Dice by case id, of the target or the mean of the foreground classes; NaN if undefined."""

    def write(self, folder: Path, facts: dict[str, Any]) -> str:
        """Write tables and `summary.md` into the folder; returns the summary."""

    def metrics(self) -> dict[str, float]:
        """Return the metrics `test_*` by name."""


def scoring_of(names: Sequence[str], *, instances: bool = False) -> Scoring:
    """Select the scoring for these class names; `instances`: the mask values of two classes number objects."""
    return TargetScoring(instances=instances) if len(names) == 2 else ClassScoring(names)


class TargetScoring:
    """Scores target against background: the five metrics, and the text claims.

    Args:
        instances: the mask values number objects, which are then scored too.
    """

    files: Sequence[str] = ("per_case.csv", "calibration.csv", "summary.md")

    def __init__(self, *, instances: bool = False) -> None:
        self.rows: list[CaseScores] = []
        self._instances = instances
        self._pooled = PooledScores()
        self._claims: list[ClaimScores] = []

    def update(self, record: dict[str, Any], logits: torch.Tensor) -> None:
        """Score one image."""
        truth = class_labels(record["mask"])
        probability = full_probability(logits, truth.shape)
        self._pooled.update(probability, truth)
        claims = self._score_claims(record, probability, truth)
        self._claims.append(claims)
        self.rows.append(CaseScores(record["case_id"], record["patient_id"], score_image(probability, truth), claims))

    def _score_claims(self, record: dict[str, Any], probability: np.ndarray, truth: np.ndarray) -> ClaimScores:
        try:
            return score_claims(
                probability,
                truth,
                novel=read_mask(record["novel_mask"]) if record.get("novel_mask") else None,
                objects=object_labels(read_mask(record["mask"])) if self._instances else None,
                mpp=record.get("mpp"),
            )
        except ValueError as error:
            raise CvmError(f"case {record['case_id']}: {error}") from error

    def dice(self) -> dict[str, float]:
        """Dice of the target, by case id."""
        return {row.case_id: row.scores.dice for row in self.rows}

    def write(self, folder: Path, facts: dict[str, Any]) -> str:
        """Write table and summary; returns the summary."""
        write_per_case_csv(folder / "per_case.csv", self.rows)
        write_calibration_csv(folder / "calibration.csv", pool_claims(self._claims).counts.reliability)
        text = summary_markdown(self.rows, self._pooled.compute(), facts=facts, resolution=RESOLUTION)
        text += claims_markdown(self._claims)
        write_text(folder / "summary.md", text)
        return text

    def metrics(self) -> dict[str, float]:
        """Return means, standard deviations and pooled scores, and those of the claims."""
        summary, pooled = summarise([row.scores for row in self.rows]), self._pooled.compute()
        means = {f"test_{name}": metric.mean for name, metric in summary.metrics.items()}
        deviations = {f"test_{name}_sd": metric.sd for name, metric in summary.metrics.items()}
        together = {f"test_pooled_{name}": getattr(pooled, name) for name in summary.metrics}
        images = {"test_dice_images": float(summary.metrics["dice"].n)}
        return {**means, **deviations, **images, **together, **self._claim_metrics()}

    def _claim_metrics(self) -> dict[str, float]:
        summary, pooled = summarise_claims(self._claims), pool_claims(self._claims)
        means = {f"test_{name}": metric.mean for name, metric in summary.items()}
        medians = {f"test_{name}_median": metric.median for name, metric in summary.items()}
        deviations = {f"test_{name}_sd": metric.sd for name, metric in summary.items()}
        counts = {f"test_{name}_images": float(metric.n) for name, metric in summary.items() if metric.n}
        together = {f"test_pooled_{name}": getattr(pooled, name) for name in CLAIMS}
        return {**means, **medians, **deviations, **counts, **together}


class ClassScoring:
    """Scores each foreground class against all other classes, and their mean.

    Args:
        names: of all classes, background first.
    """

    files: Sequence[str] = ("per_case.csv", "summary.md")

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.rows = list(names[1:]), list[ClassScores]()
        self._pooled = PooledClassScores(len(names))

    def update(self, record: dict[str, Any], logits: torch.Tensor) -> None:
        """Score one image."""
        truth = class_labels(record["mask"], classes=len(self.names) + 1)
        probabilities = full_probabilities(logits, truth.shape)
        self._pooled.update(probabilities, truth)
        scores = score_classes(probabilities, truth)
        self.rows.append(ClassScores(record["case_id"], record["patient_id"], scores))

    def dice(self) -> dict[str, float]:
        """Mean Dice over the foreground classes, by case id."""
        return {row.case_id: row.mean("dice") for row in self.rows}

    def write(self, folder: Path, facts: dict[str, Any]) -> str:
        """Write table and summary; returns the summary."""
        write_per_class_csv(folder / "per_case.csv", self.rows, names=self.names)
        pooled = self._pooled.compute()
        text = class_summary_markdown(self.rows, pooled, names=self.names, facts=facts, resolution=RESOLUTION)
        write_text(folder / "summary.md", text)
        return text

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the mean over the classes, and of each class."""
        images = float(np.isfinite(list(self.dice().values())).sum())
        return class_metrics(self.rows, self._pooled.compute(), names=self.names) | {"test_dice_images": images}


def case_dice(record: Mapping[Any, Any], logits: torch.Tensor) -> float:
    """Compute the Dice of one image as a `Scoring` does: of the target, or the mean of the foreground classes.

    Args:
        record: of a case with a mask.
        logits: (C, h, w).
    """
    truth = class_labels(record["mask"], classes=len(logits))
    if len(logits) == 2:
        return dice_score(full_probability(logits, truth.shape) > 0.5, truth)
    likeliest, known = full_probabilities(logits, truth.shape).argmax(axis=0), truth != IGNORED
    return macro_mean(
        [
            dice_score(likeliest == label, np.where(known, truth == label, IGNORED).astype(np.uint8))
            for label in range(1, len(logits))
        ]
    )


def full_probability(logits: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Probability of the target at (height, width) `shape`, (H, W) float32, resized bilinearly where it differs."""
    return _resized(torch.softmax(logits.float(), dim=0)[1:2], shape)[0]


def full_probabilities(logits: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Probability of each class at (height, width) `shape`, (C, H, W) float32, resized as by `full_probability`."""
    return _resized(torch.softmax(logits.float(), dim=0), shape)


def _resized(maps: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    if tuple(maps.shape[-2:]) != tuple(shape):
        maps = nn.functional.interpolate(maps[None], size=tuple(shape), mode="bilinear", align_corners=False)[0]
    found: np.ndarray = maps.cpu().numpy()
    return found
