"""Connect to MLflow's store of runs and registered models, and find or copy a training's run in it.

A training has a run in its own store (`own_store`, `recorded_tests`). Another store, such as a common server, gets a
copy of that run (`find_common_run`, `fill_common_run`).
"""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvm_monai.engines.recorders import SOURCE
from cvm_monai.errors import CvmError
from cvm_monai.files import shown
from cvm_monai.registry.trained import TEST, Trained
from cvm_monai.runs.store import OFF, check_tracking_uri, client_of, recorded_store
from cvm_monai.runs.tracking import TrackedRun

NAME = re.compile(r"[\w.-]+( [\w.-]+)*")
ALIAS = re.compile(r"[\w-]+")
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)
ORIGIN = "mlflow_run_id"
"""Tag of a copied run: the id of the original run in the training's own store."""
BATCH = 1000
"""Maximal number of values per MLflow request."""
SHOWN = {"figures": ("*.png",), "evaluation": ("*.png", "summary.md", "calibration.csv", "stain_shift.csv")}
"""Files of the output folder that are copied; tables of single cases are not, as they name patients."""


def connect(uri: str) -> Any:
    """Create MLflow's client for a database or a server.

    Raises:
        CvmError: an address of another kind, or a server that does not answer.
    """
    check_store(uri)
    return client_of(uri)


@contextlib.contextmanager
def current_store(uri: str) -> Iterator[None]:
    """Make this the store of MLflow's `models:/` addresses for a block, without MLflow's progress bars and notices."""
    import mlflow

    before: Any = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    logger = logging.getLogger("mlflow")
    level, settings = logger.level, {name: os.environ.get(name) for name in QUIET}
    mlflow.set_tracking_uri(uri)
    logger.setLevel(logging.ERROR)
    os.environ.update(QUIET)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        logger.setLevel(level)
        for name, value in settings.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def find_alias(client: Any, name: str, alias: str) -> Any | None:
    """Find MLflow's version of the model `name` that has the alias; None where there is no such model or alias."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def check_store(uri: str) -> None:
    """Refuse an address that is not an MLflow store.

    Raises:
        CvmError: an address of another kind, or a server that does not answer.
    """
    if uri == OFF:
        raise CvmError("a model registry needs a store: give --tracking_uri sqlite:////path/mlruns.db or a server")
    try:
        check_tracking_uri(uri)
    except ValueError as error:
        if not uri.startswith("http"):
            raise
        raise CvmError(
            f"no MLflow server answers at {uri}: start it (mlflow server --host 127.0.0.1), or name another "
            "store by --tracking_uri"
        ) from error


def check_name(name: str) -> None:
    """Refuse a model's name that MLflow or a `models:/` address could not hold.

    Raises:
        CvmError: an invalid name; the message says what is allowed.
    """
    if not NAME.fullmatch(name):
        raise CvmError(f"--name must consist of letters, digits, '_', '-' and '.', got {shown(name)}")


def check_alias(alias: str) -> None:
    """Refuse an alias that MLflow would refuse.

    Raises:
        CvmError: an invalid alias; the message says what is allowed.
    """
    if not ALIAS.fullmatch(alias):
        raise CvmError(f"--alias must consist of letters, digits, '_' and '-', got {shown(alias)}")
    if RESERVED.fullmatch(alias):
        raise CvmError(f"--alias {alias!r} is reserved by MLflow for versions: choose another")


def recorded_tests(trained: Trained) -> dict[str, float]:
    """Read the `test_*` values that the evaluation recorded on the training's MLflow run.

    Raises:
        CvmError: no run, a store that is missing or does not answer, or a run that was not evaluated.
    """
    from mlflow.exceptions import MlflowException

    run_id, uri = trained.record.get("mlflow_run_id"), trained.record.get("mlflow_tracking_uri")
    if not run_id or not uri or not isinstance(run_id, str):
        raise CvmError(f"the training in {trained.output} has no MLflow run: train with a --tracking_uri, and evaluate")
    uri = own_store(trained)
    try:
        metrics = connect(uri).get_run(run_id).data.metrics
    except MlflowException as error:
        raise CvmError(f"the MLflow run {run_id} of {trained.output} is not in {uri}: train again") from error
    tests = {name: value for name, value in metrics.items() if name.startswith(TEST)}
    if not tests:
        raise CvmError(f"the training in {trained.output} was not evaluated: run `evaluating` with this output_dir")
    return tests


def own_store(trained: Trained) -> str:
    """Find the present address of the training's own MLflow store.

    Raises:
        CvmError: it no longer exists.
    """
    return recorded_store(trained.record["mlflow_tracking_uri"], output_dir=trained.output)


def find_common_run(client: Any, trained: Trained, *, experiment: str) -> str | None:
    """Find the id of the copy of a training's run in a store; None where there is none yet."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    origin = str(trained.record["mlflow_run_id"])
    runs = client.search_runs([found.experiment_id], f"tags.{ORIGIN} = '{origin}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def fill_common_run(run: TrackedRun, client: Any, trained: Trained, *, name: str) -> None:
    """Copy a training's run: knobs, every value with its step and time, curves and figures, data set, source.

    The tag by which `find_common_run` finds the copy comes last, so that an incomplete one is not found.

    Args:
        run: just started.
        client: of its store.
        name: of the registered model; the data set's name where the record has none.
    """
    record, origin = trained.record, str(trained.record["mlflow_run_id"])
    run.params({key: value for key, value in trained.knobs.items() if value is not None})
    _copy_values(client_of(own_store(trained)), origin, client, str(run.run_id))
    commit = {"mlflow.source.git.commit": record["commit"]} if record.get("commit") else {}
    run.tags({key: record.get(key) for key in ("commit", "data_sha256")} | SOURCE | commit)
    if record.get("data_sha256"):
        folder = Path(str(trained.knobs.get("dataset_dir") or name)).name
        run.dataset(folder, digest=record["data_sha256"], uri=folder)
    for place, patterns in SHOWN.items():
        for file in sorted(file for pattern in patterns for file in (trained.output / place).glob(pattern)):
            run.artifact(file, folder=place)
    run.tags({ORIGIN: origin})


def _copy_values(source: Any, origin: str, client: Any, run_id: str) -> None:
    """Copy every value of every metric as it was logged."""
    names = source.get_run(origin).data.metrics
    points = [point for name in names for point in source.get_metric_history(origin, name)]
    for begin in range(0, len(points), BATCH):
        client.log_batch(run_id, metrics=points[begin : begin + BATCH])
