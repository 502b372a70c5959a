"""Test metrics without masks: how the network classifies the annotated points of the test images."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvm_monai.annotations import UNLABELLED, read_annotations
from cvm_monai.data.transforms import labelled_pixels
from cvm_monai.files import write_text
from cvm_monai.slides import image_size

PREFIX = "test_point_"
"""Prefix of these metrics' names, which tells them from metrics of regions such as Dice."""
NOTE = (
    "No test image has a mask: these are scores of the annotated points alone. A point says whether the network is "
    "right where somebody clicked, usually far from borders, so that no Dice follows from it."
)


@dataclass(frozen=True)
class PointScores:
    """One image's points and correctly classified points by class, and the sum of -log p over all points."""

    case_id: str
    patient_id: str
    counts: np.ndarray
    right: np.ndarray
    surprise: float


class PointScoring:
    """Recall of each class, their mean (balanced accuracy) and the cross-entropy, over the points of all images.

    All points of an image count, also those beyond `pairs`; a region counts by its few interior points.

    Args:
        names: class names, by number.
    """

    files: Sequence[str] = ("per_case.csv", "summary.md")

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.rows = list(names), list[PointScores]()

    def update(self, record: dict[str, Any], logits: torch.Tensor) -> None:
        """Score one image whose record has points; logits (C, h, w)."""
        annotations = read_annotations(record["points"], classes=record.get("classes"))
        shape, grid = image_size(record["image"]), (int(logits.shape[-2]), int(logits.shape[-1]))
        pixels, labels = labelled_pixels(annotations, image_shape=shape, map_shape=grid)
        pixels, labels = pixels[labels != UNLABELLED], labels[labels != UNLABELLED]
        log_p = torch.log_softmax(logits.double().cpu(), dim=0).numpy()[:, pixels[:, 0], pixels[:, 1]]
        right = log_p.argmax(axis=0) == labels
        size = len(self.names)
        self.rows.append(
            PointScores(
                record["case_id"],
                record["patient_id"],
                np.bincount(labels, minlength=size),
                np.bincount(labels[right], minlength=size),
                float(-log_p[labels, np.arange(len(labels))].sum()),
            )
        )

    def metrics(self) -> dict[str, float]:
        """Compute `test_point_*` over all points of all images; a class without points has no recall."""
        counts = sum((row.counts for row in self.rows), np.zeros(len(self.names), dtype=np.int64))
        right = sum((row.right for row in self.rows), np.zeros(len(self.names), dtype=np.int64))
        recalls = {name: r / n for name, r, n in zip(self.names, right, counts, strict=True) if n}
        surprise = sum(row.surprise for row in self.rows)
        return {
            f"{PREFIX}balanced_accuracy": float(np.mean(list(recalls.values()))),
            **{f"{PREFIX}recall_{name}": float(value) for name, value in recalls.items()},
            f"{PREFIX}cross_entropy": surprise / max(1, int(counts.sum())),
            f"{PREFIX}count": float(counts.sum()),
            f"{PREFIX}images": float(sum(bool(row.counts.sum()) for row in self.rows)),
        }

    def write(self, folder: Path, facts: dict[str, Any]) -> str:
        """Write the table and the summary; returns the summary."""
        stream = io.StringIO()
        table = csv.writer(stream, lineterminator="\n")
        both = [word for name in self.names for word in (f"{name}_points", f"{name}_right")]
        table.writerow(["case_id", "patient_id", *both, "cross_entropy"])
        for row in self.rows:
            numbers = [int(n) for pair in zip(row.counts, row.right, strict=True) for n in pair]
            mean = f"{row.surprise / row.counts.sum():.6f}" if row.counts.sum() else ""
            table.writerow([row.case_id, row.patient_id, *numbers, mean])
        write_text(folder / "per_case.csv", stream.getvalue())
        lines = ["# Test scores on points", "", NOTE, "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in facts.items()]
        lines += ["", "| over all points | |", "|---|---|"]
        lines += [f"| {name.removeprefix(PREFIX)} | {value:.4g} |" for name, value in self.metrics().items()]
        text = "\n".join(lines) + "\n"
        write_text(folder / "summary.md", text)
        return text
