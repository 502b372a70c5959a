"""A training's run in a store that is not its own: found again, or made with all that its own run shows."""

from pathlib import Path
from typing import Any

from cvm_monai.engines.record import SOURCE
from cvm_monai.engines.tracking import TrackedRun
from cvm_monai.engines.tracking_store import client_of
from cvm_monai.registry.trained import Trained, own_store

ORIGIN = "mlflow_run_id"
"""Tag of such a run: the training's run in its own store."""
BATCH = 1000
"""Most values that MLflow takes at once."""
SHOWN = {"figures": ("*.png",), "evaluation": ("*.png", "summary.md", "calibration.csv", "stain_shift.csv")}
"""Files of the output folder that come along; tables of single cases stay, they name patients."""


def find_common_run(client: Any, trained: Trained, *, experiment: str) -> str | None:
    """The id of the run that stands for a training in a store; None where there is none yet."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    origin = str(trained.record["mlflow_run_id"])
    runs = client.search_runs([found.experiment_id], f"tags.{ORIGIN} = '{origin}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def fill_common_run(run: TrackedRun, client: Any, trained: Trained, *, name: str) -> None:
    """Repeat a training's run: knobs, every value with its step and time, curves and figures, data set, source.

    Args:
        run: just started.
        client: of its store.
        name: of what is registered; the data set's name where the record has none.
    """
    record, origin = trained.record, str(trained.record["mlflow_run_id"])
    run.params({key: value for key, value in trained.knobs.items() if value is not None})
    _copy_values(client_of(own_store(trained)), origin, client, str(run.run_id))
    commit = {"mlflow.source.git.commit": record["commit"]} if record.get("commit") else {}
    run.tags({key: record.get(key) for key in ("commit", "data_sha256", ORIGIN)} | SOURCE | commit)
    if record.get("data_sha256"):
        folder = Path(str(trained.knobs.get("dataset_dir") or name)).name
        run.dataset(folder, digest=record["data_sha256"], uri=folder)
    for place, patterns in SHOWN.items():
        for file in sorted(file for pattern in patterns for file in (trained.output / place).glob(pattern)):
            run.artifact(file, folder=place)


def _copy_values(source: Any, origin: str, client: Any, run_id: str) -> None:
    """Every value of every metric, as it was logged."""
    names = source.get_run(origin).data.metrics
    points = [point for name in names for point in source.get_metric_history(origin, name)]
    for begin in range(0, len(points), BATCH):
        client.log_batch(run_id, metrics=points[begin : begin + BATCH])
