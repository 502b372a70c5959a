"""Evaluate a trained network on the test fold: per-case scores, summary and figures, logged to the training's run."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode

from cvm_monai.data.transforms import class_labels, resize_image
from cvm_monai.engines.item_evidence import feature_sums, item_evidence, mean_of_sums, solve_items
from cvm_monai.engines.point_scoring import PointScoring
from cvm_monai.engines.previews import foreground, point_rows
from cvm_monai.engines.scoring import TargetScoring, full_probabilities, full_probability, scoring_of
from cvm_monai.engines.stain_shifts import FIGURE, TABLE, StainShiftTest, report_shifts
from cvm_monai.errors import CvmError
from cvm_monai.figures import FigureRow, dice_box, paper_figure, save_figure
from cvm_monai.files import write_text
from cvm_monai.metrics import ShiftedDice, holds_instances, shift_metrics
from cvm_monai.runs.tracking import recorded_run
from cvm_monai.slides import read_image, read_mask
from cvm_monai.supervision.base import Supervision

logger = logging.getLogger(__name__)

FIGURES = ("cases.png", "dice.png")


class TestReport:
    """Scores each test image at its own resolution and writes tables and figures into `output_dir/evaluation`.

    It writes `per_case.csv`, `calibration.csv`, `summary.md`, `cases.png` and `dice.png`, and with `stain_shifts` also
    `stain_shift.csv` and `stain_shift.png`. The probability is resized bilinearly from the network's output to the
    image's size before it is compared. Objects are scored if a mask of the test fold has two or more values beside 0.
    With more than two classes each foreground class is scored, and their mean; the figures show all foreground classes
    merged against the background, with the mean Dice. If no test image has a mask, the annotated points are scored
    in their place (`PointScoring`), without figures and stain shifts.

    Args:
        network: as of `build_network`; its `features` are for the figure's pseudo-labels.
        supervision: makes u for the figure from the test image's own points, where its method has one.
        dataset: the test cases; `dataset.data` holds their records.
        output_dir: of the training; the test metrics `test_*` are logged to the MLflow run named in its `run.json`.
        facts: shown in the summary.
        device: of the network.
        classes: class names, by number.
        rows: cases in the figure: the worst, the best, and evenly between.
        spacing: features to a cell of the grid on which u is solved for the figure, see `item_evidence`.
        stain_shifts: scores the test images again with shifted stains; None: no such test.
    """

    __test__ = False  # tells pytest that this is not a test class

    def __init__(
        self,
        *,
        network: Any,
        supervision: Supervision,
        dataset: Any,
        output_dir: str,
        facts: dict[str, Any],
        device: torch.device | str,
        classes: Sequence[str] = ("background", "target"),
        rows: int = 6,
        spacing: int | None = 1,
        stain_shifts: StainShiftTest | None = None,
    ) -> None:
        self.network, self.supervision, self.dataset = network, supervision, dataset
        self.output, self.folder = Path(output_dir), Path(output_dir) / "evaluation"
        self.facts, self.device, self.rows = facts, torch.device(device), rows
        self.classes = tuple(classes)
        self.spacing = spacing
        self.stain_shifts, self.shifted = stain_shifts, list[ShiftedDice]()
        self.records = {record["case_id"]: record for record in dataset.data}
        self.by_points = not any(record.get("mask") for record in dataset.data)
        if self.by_points and not any(record.get("points") for record in dataset.data):
            raise CvmError(
                "no case of the test fold has a mask to score against: add masks, or points at least, or use another "
                "--fold"
            )

    def attach(self, engine: Engine) -> None:
        """Add the handlers to the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Engine) -> None:
        del engine
        self._without_mask = 0
        self._points = PointScoring(self.classes)
        instances = holds_instances(read_mask(r["mask"]) for r in self.dataset.data if r.get("mask"))
        self._scoring = scoring_of(self.classes, instances=instances)
        if self.supervision.needs_mean:  # mean of the test images: the training's own mean is not saved
            images = range(len(self.dataset))
            found = feature_sums(
                self.network, self.supervision, self.dataset, images, device=self.device, spacing=self.spacing
            )
            self.supervision.mean_features = mean_of_sums([found])

    def __call__(self, engine: Any) -> None:
        """Score the images of one iteration."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            record = self.records[item["case_id"]]
            if self.by_points and record.get("points"):
                self._points.update(record, output["pred"])
            if not record.get("mask"):
                self._without_mask += 1
                continue
            self._scoring.update(record, output["pred"])

    def _complete(self, engine: Engine) -> None:
        del engine
        if self.by_points:
            self._complete_points()
            return
        text, dice = self._scoring.write(self.folder, self._all_facts()), self._scoring.dice()
        title = "" if len(self.classes) == 2 else "Mean of the foreground classes"
        save_figure(dice_box(dice, title=title), self.folder / "dice.png")
        rows = [self._row(case_id, dice[case_id]) for case_id in self._chosen()]
        save_figure(paper_figure(rows), self.folder / "cases.png")
        text = self._shift_stains(text, dice)
        files = (*self._scoring.files, *FIGURES, TABLE, FIGURE)
        self._log(self._scoring.metrics() | shift_metrics(self.shifted), files)
        logger.info("scores of %d test images:\n%s", len(dice), text)

    def _complete_points(self) -> None:
        """Score the points of a test without masks; remove tables and figures of an earlier evaluation with masks."""
        for file in (*TargetScoring.files, *FIGURES, TABLE, FIGURE):
            (self.folder / file).unlink(missing_ok=True)
        facts = self.facts | {"test images": f"{len(self._points.rows)} with points, none with a mask"}
        text = self._points.write(self.folder, facts)
        self._log(self._points.metrics(), self._points.files)
        logger.info("no test image has a mask: scores of the points of %d images:\n%s", len(self._points.rows), text)

    def _shift_stains(self, text: str, dice: dict[str, float]) -> str:
        """Extend the summary by a section on stain shifts, if they are requested."""
        for file in (TABLE, FIGURE):
            (self.folder / file).unlink(missing_ok=True)  # from an earlier evaluation
        records = [self.records[case_id] for case_id in dice]
        self.shifted = self.stain_shifts.run(records, unshifted=dice) if self.stain_shifts else []
        if self.shifted:
            text += report_shifts(self.shifted, self.folder)
            write_text(self.folder / "summary.md", text)
        return text

    def _all_facts(self) -> dict[str, Any]:
        facts = dict(self.facts)
        facts["test images"] = f"{len(self._scoring.dice())} scored" + (
            f", {self._without_mask} without a mask left out" if self._without_mask else ""
        )
        return facts

    def _chosen(self) -> Sequence[str]:
        """Select cases for the figure, evenly spaced from the worst Dice to the best."""
        ranked = sorted(self._scoring.dice().items(), key=lambda entry: (np.nan_to_num(entry[1], nan=-1.0), entry[0]))
        picks = np.unique(np.linspace(0, len(ranked) - 1, min(self.rows, len(ranked))).round().astype(int))
        return [ranked[index][0] for index in picks]

    def _row(self, case_id: str, dice: float) -> FigureRow:
        index = [record["case_id"] for record in self.dataset.data].index(case_id)
        item, record = self.dataset[index], self.records[case_id]
        shape = item["image_shape"]
        truth = foreground(class_labels(record["mask"], classes=len(self.classes)))
        logits, u = self._predict(item)
        scale = np.array([shape[1] / item["label"].shape[-1], shape[0] / item["label"].shape[-2], 1.0])
        return FigureRow(
            case_id=case_id,
            image=resize_image(read_image(record["image"]), shape),
            points=point_rows(item["in_points"], item["out_points"]) * scale,
            truth=truth,
            pseudo_label=u,
            probability=self._probability(logits, truth.shape),
            dice=None if np.isnan(dice) else dice,
        )

    def _predict(self, item: dict[str, Any]) -> tuple[torch.Tensor, np.ndarray | None]:
        """Compute the network's logits of one item, and u from its own points."""
        if not self.supervision.renews:
            with eval_mode(self.network):
                return self.network(item["image"][None].to(self.device))[0], None
        classes = len(self.classes)
        found = item_evidence(
            self.network, self.supervision, item, device=self.device, spacing=self.spacing, classes=classes
        )
        (u,) = (one.u for one in solve_items(self.supervision, [found], classes=classes))
        return found.logits, u if u is None or classes == 2 else 1 - u[0]

    def _probability(self, logits: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
        """Probability (H, W) of the target, or of all foreground classes merged."""
        if len(self.classes) == 2:
            return full_probability(logits, shape)
        return full_probabilities(logits, shape)[1:].sum(axis=0).clip(0, 1)

    def _log(self, found: Mapping[str, float], files: Sequence[str]) -> None:
        try:
            run = recorded_run(self.output)
        except ValueError as error:
            logger.warning("the scores are not in MLflow: %s", error)
            return
        run.metrics(found)
        for file in files:
            run.artifact(self.folder / file, folder="evaluation")
