"""MLflow's store of runs and registered models, reached by its address; the names that it takes."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

from cvm_monai.engines.tracking import OFF, check_tracking_uri
from cvm_monai.engines.tracking_store import client_of
from cvm_monai.errors import CvmError
from cvm_monai.files import shown

NAME = re.compile(r"[\w.-]+( [\w.-]+)*")
ALIAS = re.compile(r"[\w-]+")
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)


def connect(uri: str) -> Any:
    """MLflow's client of a database or a server.

    Raises:
        CvmError: an address of another kind, or a server that does not answer.
    """
    check_store(uri)
    return client_of(uri)


@contextlib.contextmanager
def current_store(uri: str) -> Iterator[None]:
    """Make it the store that MLflow's `models:/` addresses mean, and keep its bars and notices quiet, for a block."""
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
    """MLflow's version of the model `name` that has the alias; None where there is no such model or alias."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def check_store(uri: str) -> None:
    """Refuse an address that is no store.

    Raises:
        CvmError: an address of another kind, or a server that does not answer.
    """
    if uri == OFF:
        raise CvmError("a model registry needs a store: give --tracking-uri sqlite:////path/mlruns.db or a server")
    try:
        check_tracking_uri(uri)
    except ValueError as error:
        if not uri.startswith("http"):
            raise
        raise CvmError(
            f"no MLflow server answers at {uri}: start it (mlflow server --host 127.0.0.1), or name another "
            "store by --tracking-uri"
        ) from error


def check_name(name: str) -> None:
    """Refuse a model's name that MLflow or a `models:/` address could not hold.

    Raises:
        CvmError: what a name may hold.
    """
    if not NAME.fullmatch(name):
        raise CvmError(f"--name must be of letters, digits, '_', '-' and '.', got {shown(name)}")


def check_alias(alias: str) -> None:
    """Refuse an alias that MLflow would refuse.

    Raises:
        CvmError: what an alias may hold.
    """
    if not ALIAS.fullmatch(alias):
        raise CvmError(f"--alias must be of letters, digits, '_' and '-', got {shown(alias)}")
    if RESERVED.fullmatch(alias):
        raise CvmError(f"--alias {alias!r} is a word that MLflow keeps for versions: choose another")
