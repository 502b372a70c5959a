"""What commands left on disk, with one file of it broken, taken up by a later command."""

import csv
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from .broken_bytes import broken_bytes
from .broken_texts import broken_json, broken_table
from .job import Job, chosen

HARM = "unpickled"
"""Name of the folder that a harmful model makes."""

COMPARED = ("--methods", "cvm,partial_ce", "--only", "0", "--jobs", "1", "--tracking_uri", "none")
"""The comparison that `compared` has finished."""


def compared(training: Path) -> Path:
    """The output folder of a finished comparison on the training's data, made once."""
    from cvm_monai.experiments.compare import ComparisonRequest, compare
    from cvm_monai.experiments.execute import Outcome
    from cvm_monai.experiments.state import Cost

    output = training.parent / "compared"
    if not output.exists():

        class Copies:
            """Finishes a run with the network of the training."""

            def __call__(self, run: Any, place: Any) -> Outcome:
                shutil.copytree(training / "models", run.folder / "models")
                shutil.copy(training / "run.json", run.folder)
                (run.folder / "evaluation").mkdir()
                (run.folder / "evaluation" / "per_case.csv").write_text(scores())
                return Outcome(Cost(2.0, 1.0, 500.0))

            def stop(self) -> None:
                pass

        knobs = ("--tracking_uri", "none")
        request = ComparisonRequest(training / "data", output, only="0", knobs=knobs, methods="cvm,partial_ce")
        compare(request, execute=Copies(), say=lambda text: None)
        for file in (*output.rglob("compare.json"), output / "comparison.json"):
            _without_circumstances(file)
    return output


def _without_circumstances(record: Path) -> None:
    """Take from a record what differs from one test run to the next: what is broken must be the same each time."""
    found = json.loads(record.read_text())
    kept = ("status", "configuration", "cost", "mlflow_run_id", "mlflow_tracking_uri", "study")
    record.write_text(json.dumps({name: found[name] for name in kept if name in found}))


def scores() -> str:
    """The table of a run's two test cases."""
    from cvm_monai.metrics import METRICS

    header = ("case_id", "patient_id", "n_pixels", "target_fraction", *METRICS, "note")
    rows = [(name, f"p{name}", 1920, 0.25, *(0.5 for _ in METRICS), "") for name in "ae"]
    return "\n".join(",".join(map(str, row)) for row in (header, *rows)) + "\n"


class Harmful:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def harmful(rng: np.random.Generator, file: Path) -> None:
    """A model that runs code where it is unpickled: it makes the folder `HARM` beside itself."""
    import torch

    content = Harmful(file.with_name(HARM))
    torch.save({"weight": content}, file, _use_new_zipfile_serialization=bool(rng.integers(2)))
    if rng.random() < 0.3:
        file.write_bytes(pickle.dumps(content))


def broken(rng: np.random.Generator, file: Path) -> None:
    """A file damaged as its kind can be, or gone."""
    if rng.random() < 0.05:
        file.unlink()
    elif file.suffix == ".json" and rng.random() < 0.9:
        file.write_bytes(broken_json(rng, json.loads(file.read_text())))
    elif file.suffix == ".csv" and rng.random() < 0.9:
        file.write_bytes(broken_table(rng, list(csv.reader(file.read_text().splitlines()))))
    elif file.suffix == ".pt" and rng.random() < 0.3:
        harmful(rng, file)
    else:
        file.write_bytes(broken_bytes(rng, file.read_bytes()))


def comparisons(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A finished comparison of which one file is broken, to be gone on with, or to be ablated in its place."""
    shutil.copytree(training / "data", root / "input" / "data")
    shutil.copytree(compared(training), root / "out")
    if rng.random() < 0.85:
        run = root / "out" / "runs" / chosen(rng, ("cvm", "partial_ce")) / "fold0_seed0"
        files = ("compare.json", "run.json", "models/model.pt", "models/stain.json", "evaluation/per_case.csv")
        weights = (0.3, 0.2, 0.1, 0.1, 0.3)
        broken(rng, run / rng.choice(files, p=weights))
    elif rng.random() < 0.5:
        broken(rng, root / "out" / "comparison.json")
    else:
        broken(rng, root / "input" / "data" / chosen(rng, ("datalist.json", "mask.png", "a.geojson", "a.png")))
    return Job(("compare", f"{root}/input/data", "--output", f"{root}/out", *COMPARED), root / "input")


def compared_data(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken data set that is to be compared or ablated on."""
    shutil.copytree(training / "data", root / "input")
    broken(rng, root / "input" / chosen(rng, ("datalist.json", "datalist.json", "mask.png", "a.geojson", "a.png")))
    more = [
        ("compare", str(root / "input"), "--methods", chosen(rng, ("all", "full", "cvm"))),
        ("ablate", str(root / "input"), "--what", chosen(rng, ("eta", "pairs"))),
    ][rng.integers(2)]
    return Job((*more, "--output", f"{root}/out", "--tracking_uri", "none", "--jobs", "1"), root / "input")


def trained_folder(rng: np.random.Generator, root: Path, training: Path) -> Path:
    """A copy of the training of which one file is broken or gone."""
    folder = root / "input" / "run"
    shutil.copytree(training, folder)
    victim = folder / chosen(
        rng, ("run.json", "run.json", "run.json", "datalist.json", "models/stain.json", "models/model.pt")
    )
    broken(rng, victim)
    return folder


def exports(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken training that is to be exported; what is written is not looked at."""
    folder = trained_folder(rng, root, training)
    names = [("a.onnx",), ("a.pt2",), ("a.onnx", "b.pt2"), ("a.txt",)][rng.integers(4)]
    return Job(("export", str(folder), *(str(root / "out" / name) for name in names)), root / "input")


def stores(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """An evaluated training whose MLflow database is broken, or whose record names another, to be registered."""
    folder = root / "input" / "run"
    shutil.copytree(training, folder)
    _with_store(folder, training)
    if rng.random() < 0.6:
        broken(rng, folder / "mlruns.db")
    else:
        broken(rng, folder / "run.json")
    more = ("--promote_if_better", "dice") if rng.random() < 0.5 else ()
    return Job(("register", str(folder), "--tracking_uri", "none", *more), root / "input")


def outboxes(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """Broken entries that wait for MLflow, or a broken record beside them."""
    folder = root / "input" / "run"
    folder.mkdir(parents=True)
    shutil.copy(training / "run.json", folder)
    run_id = _with_store(folder, training)
    (folder / "figure.png").write_bytes(b"a figure")
    outbox = folder / "mlflow_outbox.jsonl"
    lines = [json.dumps(entry | {"run_id": run_id}).encode() for entry in _entries(folder)]
    number = int(rng.integers(len(lines)))
    chance = rng.random()
    if chance < 0.65:
        lines[number] = broken_json(rng, json.loads(lines[number]))
    outbox.write_bytes(b"\n".join(lines) + b"\n")
    if 0.65 <= chance < 0.8:
        broken(rng, folder / "run.json")
    elif chance >= 0.8:
        broken(rng, folder / chosen(rng, ("mlflow_outbox.jsonl", "mlruns.db")))
    changed = ("run/mlflow_outbox.jsonl", "run/mlruns.db", "run/mlruns")
    return Job(("sync-tracking", str(folder)), root / "input", changed)


def _entries(folder: Path) -> list[dict[str, Any]]:
    return [
        {"kind": "param", "name": "eta", "value": "0.6"},
        {"kind": "metric", "name": "val_dice", "value": 0.5, "step": 1, "time": 1700000000000},
        {"kind": "tag", "name": "commit", "value": "0"},
        {"kind": "artifact", "path": str(folder / "figure.png"), "folder": None, "temporary": False},
        {"kind": "status", "value": "FINISHED", "time": 1700000000000},
    ]


def _with_store(folder: Path, training: Path) -> str:
    """Put an MLflow database with an evaluated run into a training's folder; the run's id."""
    from mlflow import MlflowClient

    kept = training.parent / "store"
    file = kept / "mlruns.db"
    if not kept.exists():
        kept.mkdir()
        client = MlflowClient(tracking_uri=f"sqlite:///{file}", registry_uri=f"sqlite:///{file}")
        run = client.create_run(client.create_experiment("cvm_monai", artifact_location=(kept / "mlruns").as_uri()))
        client.log_metric(run.info.run_id, "test_dice", 0.5)
        (kept / "id").write_text(run.info.run_id)
    run_id = (kept / "id").read_text()
    shutil.copy(file, folder)
    record = json.loads((folder / "run.json").read_text())
    facts = {"mlflow_run_id": run_id, "mlflow_tracking_uri": f"sqlite:///{folder}/mlruns.db"}
    (folder / "run.json").write_text(json.dumps(record | facts))
    return run_id


def apps(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A folder for the label app in which something stands already."""
    folder = root / "input" / "app"
    folder.parent.mkdir()
    kind = int(rng.integers(4))
    if kind == 0:
        folder.write_text("a file")
    else:
        folder.mkdir()
        main = folder / "main.py"
        main.mkdir() if kind == 1 else main.write_bytes([b"\xff\xfe\x00", rng.bytes(30)][kind - 2])
    return Job(("label-app", "--output", str(folder)), root / "input")
