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
from cvm_monai.metrics import CaseScores, PooledScores, score_image, summarise, summary_markdown, write_per_case_csv
from cvm_monai.slides import read_image, read_mask
from cvm_monai.supervision.base import Supervision

logger = logging.getLogger(__name__)


class TestReport:
    """Scores each test image at its own resolution and writes `per_case.csv`, `summary.md`, `cases.png`, `dice.png`.

    The probability is resized bilinearly from the network's output to the image's size before it is compared.

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
        self._without_mask = 0

    def __call__(self, engine: Any) -> None:
        """Score the images of one iteration."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            record = self.records[item["case_id"]]
            if not record.get("mask"):
                self._without_mask += 1
                continue
            truth = (read_mask(record["mask"]) != 0).astype(np.uint8)
            probability = full_probability(output["pred"], truth.shape)
            self._pooled.update(probability, truth)
            self._scores.append(CaseScores(record["case_id"], record["patient_id"], score_image(probability, truth)))

    def _complete(self, engine: Engine) -> None:
        del engine
        write_per_case_csv(self.folder / "per_case.csv", self._scores)
        text = summary_markdown(
            self._scores,
            self._pooled.compute(),
            facts=self._all_facts(),
            resolution="the image's own resolution, the probability resized bilinearly to it",
        )
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
            image = item["image"][None].to(self.device)
            logits, features = self.network.features(image)
        points = item["in_points"], item["out_points"]
        if not self.supervision.renews or not all(map(len, points)):
            return logits[0], None
        features = self.supervision.own_features(image, features)
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
            run.metrics({k: v for k, v in {**means, **deviations, **together}.items() if np.isfinite(v)})
            for file in ("per_case.csv", "summary.md", "cases.png", "dice.png"):
                run.artifact(self.folder / file, folder="evaluation")


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
