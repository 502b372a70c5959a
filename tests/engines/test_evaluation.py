"""Scores of the test fold at the image's own resolution."""

import csv
import json
import sqlite3
from contextlib import closing
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from cvm_monai.engines import TestReport
from cvm_monai.engines.evaluation import full_probability
from cvm_monai.supervision.factory import build_supervision


def test_probability_at_its_own_size_is_the_softmax():
    logits = torch.tensor([0.0, 3.0, 1.0, 1.0]).reshape(2, 1, 2)
    expected = [[1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(2.0))]]
    np.testing.assert_allclose(full_probability(logits, (1, 2)), expected, rtol=1e-6)


def test_probability_not_the_logits_is_resized_bilinearly():
    logits = torch.tensor([[[0.0, 0.0]], [[-100.0, 100.0]]])  # probabilities 0 and 1
    np.testing.assert_allclose(full_probability(logits, (2, 4)), [[0, 0.25, 0.75, 1]] * 2, atol=1e-6)


class Half(nn.Module):
    """Predicts the left half of its output, a sixteenth of the image."""

    def forward(self, x):
        return self.features(x)[0]

    def features(self, x):
        size = (x.shape[-2] // 16, x.shape[-1] // 16)
        target = torch.full((1, 1, *size), -9.0)
        target[..., : size[1] // 2] = 9.0
        return torch.cat([-target, target], 1), x[:, :, ::16, ::16]


STRONG = {name: {"lam": 20.0} for name in ("cvm", "direct_variational")}
"""On a map of 4 x 4 the border of one half weighs as much as its area."""


def two_colours():
    """An image (3, 64, 64), red on the left and blue on the right."""
    image = torch.zeros(3, 64, 64)
    image[0, :, :32] = image[2, :, 32:] = 1
    return image


class Fold:
    """Items and records of 64 x 64 images, whose masks are the left half, or the right one for ids that end in r."""

    def __init__(self, folder, case_ids, *, unmasked=()):
        self.data, self.items = [], []
        for case_id in case_ids:
            image, mask = folder / f"{case_id}.png", folder / f"{case_id}_mask.png"
            Image.new("RGB", (64, 64), (120, 60, 90)).save(image)
            target = np.zeros((64, 64), dtype=np.uint8)
            target[:, slice(32, 64) if case_id.endswith("r") else slice(0, 32)] = 255
            Image.fromarray(target).save(mask)
            record = {"case_id": case_id, "patient_id": f"patient of {case_id}", "image": str(image), "mask": str(mask)}
            self.data.append(record | ({"mask": None} if case_id in unmasked else {}))
            item = {"case_id": case_id, "image": torch.rand(3, 64, 64), "label": torch.full((1, 4, 4), 255)}
            item |= {"in_points": np.array([[1, 0]]), "out_points": np.zeros((0, 2), dtype=np.int64)}
            self.items.append(item | {"image_shape": (64, 64)})

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def report_of(folder, dataset, **options) -> TestReport:
    network = Half()
    given = {
        "network": network,
        "supervision": build_supervision("cvm"),
        "dataset": dataset,
        "output_dir": str(folder / "out"),
        "facts": {"method": "cvm"},
        "device": "cpu",
    }
    report = TestReport(**given | options)

    def step(engine, index):
        engine.state.batch = [dataset[index]]
        return [{"pred": network.features(dataset[index]["image"][None])[0][0]}]

    engine = Engine(step)
    report.attach(engine)
    engine.run(list(range(len(dataset))))
    return report


def test_every_case_with_a_mask_is_scored_in_full_resolution(tmp_path):
    dataset = Fold(tmp_path, ["a", "b_r", "c"], unmasked=["c"])
    report_of(tmp_path, dataset)
    with (tmp_path / "out" / "evaluation" / "per_case.csv").open(newline="") as file:
        rows = {row["case_id"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"a", "b_r"}
    assert float(rows["a"]["dice"]) == 1.0
    assert float(rows["b_r"]["dice"]) == 0.0
    assert rows["a"]["patient_id"] == "patient of a"
    text = (tmp_path / "out" / "evaluation" / "summary.md").read_text()
    assert "2 scored, 1 without a mask left out" in text
    assert "cvm" in text
    for name in ("cases.png", "dice.png"):
        assert Image.open(tmp_path / "out" / "evaluation" / name).size[0] > 100


def cells_of(folder):
    with (folder / "out" / "evaluation" / "per_case.csv").open(newline="") as file:
        return {row["case_id"]: row for row in csv.DictReader(file)}


def test_claims_take_the_novel_mask_and_the_pixel_size_of_the_data_list(tmp_path):
    dataset = Fold(tmp_path, ["a", "b_r"])
    novel = np.zeros((64, 64), dtype=np.uint8)
    novel[:, 16:48] = 255  # half of it background: on the right in a, on the left, where all is predicted, in b_r
    Image.fromarray(novel).save(tmp_path / "novel.png")
    for record in dataset.data:
        record |= {"novel_mask": str(tmp_path / "novel.png"), "mpp": 0.5}
    report_of(tmp_path, dataset)
    cells = cells_of(tmp_path)
    assert {name: float(row["novel_fpr"]) for name, row in cells.items()} == {"a": 0.0, "b_r": 1.0}
    assert (float(cells["b_r"]["hd95_px"]), float(cells["b_r"]["hd95_um"])) == (1, 0.5)  # columns 31 and 32
    assert cells["a"]["object_f1"] == ""
    text = (tmp_path / "out" / "evaluation" / "summary.md").read_text()
    # pooled: 32 of 64 columns of novel background
    assert "| False positives in novel regions | 0.500 ± 0.707 | 0.500 | 2 | 0.500 |" in text
    assert "- Object F1 is not measured: the masks do not tell objects apart." in text
    with (tmp_path / "out" / "evaluation" / "calibration.csv").open() as file:
        assert sum(int(row["pixels"]) for row in csv.DictReader(file)) == 2 * 64 * 64


def test_objects_are_scored_where_a_mask_of_the_fold_tells_them_apart(tmp_path):
    dataset = Fold(tmp_path, ["a", "b", "c"])
    objects = np.zeros((64, 64), dtype=np.uint8)
    objects[:16, :32], objects[32:, :32] = 1, 2
    Image.fromarray(objects).save(tmp_path / "b_mask.png")
    Image.fromarray((objects != 0).astype(np.uint8)).save(tmp_path / "c_mask.png")
    report_of(tmp_path, dataset)
    cells = cells_of(tmp_path)
    assert float(cells["a"]["object_f1"]) == 1  # one object, as predicted
    assert float(cells["b"]["object_f1"]) == pytest.approx(2 / 3)  # one prediction over both
    assert cells["c"]["object_f1"] == ""  # one value in two places


def test_a_novel_mask_of_another_size_is_named_with_its_case(tmp_path):
    dataset = Fold(tmp_path, ["a"])
    Image.new("L", (8, 8)).save(tmp_path / "novel.png")
    dataset.data[0]["novel_mask"] = str(tmp_path / "novel.png")
    with pytest.raises(ValueError, match=r"case a: novel has shape \(8, 8\) and truth \(64, 64\)"):
        report_of(tmp_path, dataset)


def test_the_training_s_run_gets_every_claim_that_is_defined(tmp_path):
    report = report_of(tmp_path, Fold(tmp_path, ["a", "b_r"]))
    logged = {name: value for name, value in report._scoring.metrics().items() if np.isfinite(value)}
    assert logged["test_region_ratio"] == logged["test_pooled_region_ratio"] == 1
    assert logged["test_hd95_px_median"] == 0.5
    assert logged["test_hd95_px_images"] == 2
    assert "test_pooled_hd95_px" not in logged
    assert not any("novel" in name or "object" in name for name in logged)


def test_the_figure_shows_cases_from_the_worst_to_the_best(tmp_path):
    names = [f"{letter}_r" if letter in "bd" else letter for letter in "abcdefg"]
    report = report_of(tmp_path, Fold(tmp_path, names), rows=3)
    assert report._chosen() == ["b_r", "c", "g"]


def test_the_figure_s_u_is_solved_on_the_training_s_grid(tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr("cvm_monai.engines.evaluation.paper_figure", lambda found: rows.extend(found) or Figure())
    dataset = Fold(tmp_path, ["a"])
    dataset.items[0] |= {"out_points": np.array([[1, 3]]), "image": two_colours()}
    for method, spacing in (("cvm", 1), ("cvm", 2), ("direct_variational", 2)):
        report_of(tmp_path, dataset, spacing=spacing, supervision=build_supervision(method, constants=STRONG))
    assert [row.pseudo_label.shape for row in rows] == [(4, 4), (2, 2), (2, 2)]
    assert [(row.pseudo_label[0] > 0.5).tolist() for row in rows] == [[1, 1, 0, 0], [1, 0], [1, 0]]


def test_features_are_not_computed_for_a_method_that_reads_none(tmp_path, monkeypatch):
    dataset = Fold(tmp_path, ["a"])
    dataset.items[0] |= {"out_points": np.array([[1, 3]]), "image": two_colours()}
    for method, expected in (("cvm", 1), ("direct_variational", 0), ("partial_ce", 0)):
        report = report_of(tmp_path, dataset, supervision=build_supervision(method, constants=STRONG))
        asked = Mock(side_effect=report.network.features)
        monkeypatch.setattr(report.network, "features", asked)
        monkeypatch.setattr(report.network, "forward", lambda x: Half().features(x)[0])
        logits, u = report._predict(dataset[0])
        assert logits.shape == (2, 4, 4)
        assert (u is None) == (method == "partial_ce")
        assert asked.call_count == expected


def test_a_test_fold_without_masks_and_points_is_refused_before_the_network_runs(tmp_path):
    dataset = Fold(tmp_path, ["a"], unmasked=["a"])
    with pytest.raises(ValueError, match="no case of the test fold has a mask to score against: add masks"):
        report_of(tmp_path, dataset)


@pytest.mark.parametrize("there", [True, False])
def test_a_training_that_moved_is_logged_where_its_database_is(tmp_path, monkeypatch, caplog, there):
    output, old, runs = tmp_path / "out", tmp_path / "old", Mock()
    monkeypatch.setattr("cvm_monai.runs.tracking.TrackedRun", runs)
    output.mkdir()
    if there:
        with closing(sqlite3.connect(output / "mlruns.db")) as database:
            database.execute("CREATE TABLE runs (run_uuid TEXT)")
            database.commit()
    record = {"mlflow_run_id": "0" * 32, "mlflow_tracking_uri": f"sqlite:///{old / 'mlruns.db'}"}
    (output / "run.json").write_text(json.dumps(record))
    report_of(tmp_path, Fold(tmp_path, ["a"]))
    assert (output / "evaluation" / "summary.md").is_file()
    uris = [call.kwargs["tracking_uri"] for call in runs.call_args_list]
    assert uris == ([f"sqlite:///{output / 'mlruns.db'}"] if there else [])
    if there:
        assert "test_dice" in runs.return_value.metrics.call_args.args[0]
        assert runs.call_args.kwargs["artifact_dir"] == output / "mlruns"  # its files too
        assert {call.args[0].name for call in runs.return_value.artifact.call_args_list} >= {"summary.md", "cases.png"}
    assert ("the scores are not in MLflow: the MLflow database" in caplog.text) is not there


def test_a_run_without_tracking_is_scored_all_the_same(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(json.dumps({"mlflow_run_id": None, "mlflow_tracking_uri": "none"}))
    report_of(tmp_path, Fold(tmp_path, ["a"]))
    assert (tmp_path / "out" / "evaluation" / "summary.md").is_file()
