"""Scores of a trained network on the test fold: per case, summarised, drawn, and logged into the training's run."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode
from torch import nn

from cvm_monai.data.transforms import resize_image
from cvm_monai.engines.previews import point_rows
from cvm_monai.engines.tracking import TrackedRun
from cvm_monai.figures import FigureRow, dice_box, paper_figure, save_figure
from cvm_monai.metrics import (
    CLAIMS,
    CaseScores,
    ClaimScores,
    PooledScores,
    claims_markdown,
    holds_instances,
    object_labels,
    pool_claims,
    score_claims,
    score_image,
    summarise,
    summarise_claims,
    summary_markdown,
    write_calibration_csv,
    write_per_case_csv,
)
from cvm_monai.slides import read_image, read_mask
from cvm_monai.supervision.base import Supervision

logger = logging.getLogger(__name__)


class TestReport:
    """Scores each test image at its own resolution and writes tables and figures into `output_dir/evaluation`.

    They are `per_case.csv`, `calibration.csv`, `summary.md`, `cases.png` and `dice.png`. The probability is resized
    bilinearly from the network's output to the image's size before it is compared. Objects are scored where a mask of
    the test fold has two values or more beside 0.

    Args:
        network: as of `build_network`; its `features` are for the figure's pseudo-labels.
        supervision: makes u for the figure from the test image's own points, where its method has one.
        dataset: the test cases; `dataset.data` are their records.
        output_dir: of the training: its `run.json` names the MLflow run that gets `test_*`.
        facts: shown in the summary.
        device: of the network.
        rows: cases in the figure: the worst, the best, and evenly between.
    """

    __test__ = False  # the name is no test class of pytest's

    def __init__(
        self,
        *,
        network: Any,
        supervision: Supervision,
        dataset: Any,
        output_dir: str,
        facts: dict[str, Any],
        device: torch.device | str,
        rows: int = 6,
    ) -> None:
        self.network, self.supervision, self.dataset = network, supervision, dataset
        self.output, self.folder = Path(output_dir), Path(output_dir) / "evaluation"
        self.facts, self.device, self.rows = facts, torch.device(device), rows
        self.records = {record["case_id"]: record for record in dataset.data}
        if not any(record.get("mask") for record in dataset.data):
            raise ValueError("no case of the test fold has a mask to score against: add masks, or use another --fold")

    def attach(self, engine: Engine) -> None:
        """Listen to the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Engine) -> None:
        del engine
        self._scores: list[CaseScores] = []
        self._pooled = PooledScores()
        self._claims: list[ClaimScores] = []
        self._without_mask = 0
        self._instances = holds_instances(read_mask(r["mask"]) for r in self.dataset.data if r.get("mask"))

    def __call__(self, engine: Any) -> None:
        """Score the images of one iteration."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            record = self.records[item["case_id"]]
            if not record.get("mask"):
                self._without_mask += 1
                continue
            mask = read_mask(record["mask"])
            truth = (mask != 0).astype(np.uint8)
            probability = full_probability(output["pred"], truth.shape)
            self._pooled.update(probability, truth)
            scores, claims = score_image(probability, truth), self._score_claims(record, probability, mask)
            self._scores.append(CaseScores(record["case_id"], record["patient_id"], scores, claims))
            self._claims.append(claims)

    def _score_claims(self, record: dict[str, Any], probability: np.ndarray, mask: np.ndarray) -> ClaimScores:
        try:
            return score_claims(
                probability,
                (mask != 0).astype(np.uint8),
                novel=read_mask(record["novel_mask"]) if record.get("novel_mask") else None,
                objects=object_labels(mask) if self._instances else None,
                mpp=record.get("mpp"),
            )
        except ValueError as error:
            raise ValueError(f"case {record['case_id']}: {error}") from error

    def _complete(self, engine: Engine) -> None:
        del engine
        write_per_case_csv(self.folder / "per_case.csv", self._scores)
        write_calibration_csv(self.folder / "calibration.csv", pool_claims(self._claims).counts.reliability)
        text = summary_markdown(
            self._scores,
            self._pooled.compute(),
            facts=self._all_facts(),
            resolution="the image's own resolution, the probability resized bilinearly to it",
        )
        text += claims_markdown(self._claims)
        _write_text(self.folder / "summary.md", text)
        dice = {row.case_id: row.scores.dice for row in self._scores}
        save_figure(dice_box(dice), self.folder / "dice.png")
        rows = [self._row(case_id, dice[case_id]) for case_id in self._chosen()]
        save_figure(paper_figure(rows), self.folder / "cases.png")
        self._log()
        logger.info("scores of %d test images:\n%s", len(self._scores), text)

    def _all_facts(self) -> dict[str, Any]:
        facts = dict(self.facts)
        facts["test images"] = f"{len(self._scores)} scored" + (
            f", {self._without_mask} without a mask left out" if self._without_mask else ""
        )
        return facts

    def _chosen(self) -> Sequence[str]:
        """Cases from the worst Dice to the best, evenly spaced."""
        ranked = sorted(self._scores, key=lambda row: (np.nan_to_num(row.scores.dice, nan=-1.0), row.case_id))
        picks = np.unique(np.linspace(0, len(ranked) - 1, min(self.rows, len(ranked))).round().astype(int))
        return [ranked[index].case_id for index in picks]

    def _row(self, case_id: str, dice: float) -> FigureRow:
        index = [record["case_id"] for record in self.dataset.data].index(case_id)
        item, record = self.dataset[index], self.records[case_id]
        shape = item["image_shape"]
        truth = (read_mask(record["mask"]) != 0).astype(np.uint8)
        probability, u = self._predict(item)
        scale = np.array([shape[1] / item["label"].shape[-1], shape[0] / item["label"].shape[-2], 1.0])
        return FigureRow(
            case_id=case_id,
            image=resize_image(read_image(record["image"]), shape),
            points=point_rows(item["in_points"], item["out_points"]) * scale,
            truth=truth,
            pseudo_label=u,
            probability=full_probability(probability, truth.shape),
            dice=None if np.isnan(dice) else dice,
        )

    def _predict(self, item: dict[str, Any]) -> tuple[torch.Tensor, np.ndarray | None]:
        """The network's logits of one item, and u from its own points."""
        with eval_mode(self.network):
            logits, features = self.network.features(item["image"][None].to(self.device))
        points = item["in_points"], item["out_points"]
        if not self.supervision.renews or not all(map(len, points)):
            return logits[0], None
        evidence = self.supervision.evidence(logits[0].float(), features[0].float(), *points)
        return logits[0], self.supervision.pseudo_labels([evidence])[0].u

    def _log(self) -> None:
        record = json.loads((self.output / "run.json").read_text()) if (self.output / "run.json").is_file() else {}
        run = TrackedRun(
            tracking_uri=record.get("mlflow_tracking_uri") or "none", experiment="", artifact_dir=self.output / "mlruns"
        )
        if run.join(record.get("mlflow_run_id")):
            summary, pooled = summarise([row.scores for row in self._scores]), self._pooled.compute()
            means = {f"test_{name}": metric.mean for name, metric in summary.metrics.items()}
            deviations = {f"test_{name}_sd": metric.sd for name, metric in summary.metrics.items()}
            together = {f"test_pooled_{name}": getattr(pooled, name) for name in summary.metrics}
            run.metrics({**means, **deviations, **together, **self._claim_metrics()})
            for file in ("per_case.csv", "calibration.csv", "summary.md", "cases.png", "dice.png"):
                run.artifact(self.folder / file, folder="evaluation")

    def _claim_metrics(self) -> dict[str, float]:
        summary, pooled = summarise_claims(self._claims), pool_claims(self._claims)
        means = {f"test_{name}": metric.mean for name, metric in summary.items()}
        medians = {f"test_{name}_median": metric.median for name, metric in summary.items()}
        deviations = {f"test_{name}_sd": metric.sd for name, metric in summary.items()}
        counts = {f"test_{name}_images": float(metric.n) for name, metric in summary.items() if metric.n}
        together = {f"test_pooled_{name}": getattr(pooled, name) for name in CLAIMS}
        return {**means, **medians, **deviations, **counts, **together}


def full_probability(logits: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """Probability of the target at (height, width) `shape`, (H, W) float32, resized bilinearly where it differs."""
    probability = torch.softmax(logits.float(), dim=0)[1][None, None]
    if tuple(probability.shape[-2:]) != tuple(shape):
        probability = nn.functional.interpolate(probability, size=tuple(shape), mode="bilinear", align_corners=False)
    return probability[0, 0].cpu().numpy()


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
