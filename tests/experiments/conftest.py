"""A data set small enough to look through, and an executor that trains nothing."""

import functools
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from cvm_monai.cli.main import main
from cvm_monai.data.datalist import read_datalist
from cvm_monai.experiments import report
from cvm_monai.experiments.execute import Outcome, RunPaths
from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.scores import Row
from cvm_monai.experiments.state import Cost
from cvm_monai.metrics import (
    METRICS,
    CaseScores,
    ClaimScores,
    ImageScores,
    pool_claims,
    write_calibration_csv,
    write_per_case_csv,
)
from cvm_monai.networks import build_network

CHANNELS = [2, 2, 2, 2, 2]


def scores(dice: float, other: float = 0.5) -> ImageScores:
    """Scores of an image of 100 pixels."""
    return ImageScores(dice, other, other, other, other, 100, 40, 30, False)


def row(arm: str, case: str, dice: float | None, *, patient: str = "", fold: int = 0, seed: int = 0) -> Row:
    """One scored case; all metrics have one value, None is undefined."""
    cells = dict.fromkeys(METRICS, "" if dice is None else f"{dice}")
    return Row(arm, fold, seed, case, patient or f"patient of {case}", cells)


@functools.cache
def untrained() -> bytes:
    """The file of a network that knows nothing."""
    torch.manual_seed(0)
    file = io.BytesIO()
    torch.save(build_network("unet", channels=CHANNELS, normalisation="batch").state_dict(), file)
    return file.getvalue()


def finish(
    run: Run,
    dice: dict[str, float],
    *,
    patients: dict[str, str] | None = None,
    claims: ClaimScores | None = None,
) -> None:
    """Write what a run of a network that knows nothing leaves behind, with these scores; claims alike for all cases."""
    (run.folder / "models").mkdir(parents=True, exist_ok=True)
    (run.folder / "models" / "model.pt").write_bytes(untrained())
    knobs = {"network": "unet", "network_channels": CHANNELS, "supervision": run.arm}
    (run.folder / "run.json").write_text(json.dumps({"status": "FINISHED", "knobs": knobs}))
    cases = [CaseScores(case, (patients or {}).get(case, case), scores(value), claims) for case, value in dice.items()]
    write_per_case_csv(run.folder / "evaluation" / "per_case.csv", cases)
    if claims:
        counts = pool_claims([claims] * len(cases)).counts
        write_calibration_csv(run.folder / "evaluation" / "calibration.csv", counts.reliability)


class FakeExecutor:
    """Finishes every run at once: the Dice of case number i by a method is `base[method] + i / 100`.

    Args:
        base: by method.
        fails: whether a run fails instead.
        claims: of every case; None: not measured.
    """

    def __init__(
        self,
        base: dict[str, float] | None = None,
        *,
        fails: Callable[[Run], bool] = lambda run: False,
        claims: ClaimScores | None = None,
    ) -> None:
        self.base = base or {"partial_ce": 0.4, "cvm": 0.6, "full": 0.8}
        self.fails, self.claims = fails, claims
        self.done: list[str] = []
        self.places: list[RunPaths] = []

    def __call__(self, run: Run, place: RunPaths) -> Outcome:
        self.done.append(run.name)
        self.places.append(place)
        if self.fails(run):
            return Outcome(None, "training ended with code 2: error: something")
        cases = [case for case in read_datalist(place.dataset).cases if case.fold == run.fold]
        dice = {case.case_id: self.base.get(run.arm, 0.5) + int(case.case_id[-3:]) / 100 for case in cases}
        finish(run, dice, patients={case.case_id: case.patient_id for case in cases}, claims=self.claims)
        return Outcome(Cost(12.0, 3.0, 500.0))

    def stop(self) -> None:
        pass


@pytest.fixture
def drawn() -> None:
    """For tests of the pictures themselves: reports are drawn as they are."""


@pytest.fixture(autouse=True)
def plain_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty figures, unless a test asks for `drawn`: drawing and predicting are most of a report's time."""
    if "drawn" in request.fixturenames:
        return
    sweep = report.sweep_picture

    def plain(*_: object, **__: object) -> Figure:
        return Figure(figsize=(0.5, 0.5))

    def plain_sweep(*arguments: Any) -> Any:
        picture = sweep(*arguments)
        return picture and replace(picture, figure=plain())

    monkeypatch.setattr(report, "sweep_picture", plain_sweep)
    monkeypatch.setattr(report, "case_maps", lambda *_: [])
    for name in ("method_boxes", "method_maps"):
        monkeypatch.setattr(report, name, plain)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight cases of 64 px of four patients in four folds."""
    folder = tmp_path_factory.mktemp("data") / "phantom"
    assert main(["phantom", str(folder), "--cases", "8", "--size", "64"]) == 0
    return folder


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    """Images and masks of eight cases without points; case_id, and by two a patient."""
    folder = tmp_path / "mine"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(8):
        mask = np.zeros((48, 48), dtype=np.uint8)
        mask[10:30, 10:40] = 255
        Image.fromarray(mask).save(folder / "masks" / f"case_{index:03d}.png")
        image = rng.integers(0, 255, size=(48, 48, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / "images" / f"case_{index:03d}.png")
    table = "".join(f"case_{index:03d},p{index // 2}\n" for index in range(8))
    (folder / "cases.csv").write_text("case_id,patient_id\n" + table)
    return folder
