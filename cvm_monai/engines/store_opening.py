"""MLflow's client of a store, and its database made by one process while others wait."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cvm_monai.engines.store_address import SQLITE, database_file
from cvm_monai.errors import CvmError
from cvm_monai.files import made_by_one


def client_of(uri: str) -> Any:
    """MLflow's client of a store, which is the registry of its models as well.

    Raises:
        CvmError: a database that cannot be used.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    file = database_file(uri)
    try:
        with ExitStack() as stack:
            if file is not None:
                _check_place(file)
                stack.enter_context(_without_strays(uri))
                stack.enter_context(_made_by_one(file))
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            if file is not None and "%" in uri:  # the registry is opened when it is first asked, and makes strays too
                client.search_registered_models(max_results=1)
            return client
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", error)).split())[:200]
        raise CvmError(f"MLflow cannot use {uri} ({reason}): name another store, or restore this one") from error


def _check_place(file: Path) -> None:
    """Refuse a database that cannot be opened; MLflow would try again for a minute."""
    folder = file.absolute().parent
    if file.is_dir() or not folder.is_dir():
        what = "is a folder" if file.is_dir() else f"cannot be made: there is no folder {folder}"
        raise CvmError(f"the MLflow database {file} {what}; name another")
    if not os.access(file if file.exists() else folder, os.R_OK | os.W_OK):
        raise CvmError(f"the MLflow database {file} cannot be written: name another, or change its permissions")


@contextmanager
def _made_by_one(file: Path) -> Iterator[None]:
    """Hold a lock beside a database that is not there yet, or that another process is making, until it is made.

    MLflow's migrations fail where two processes run them. The lock's file goes when the database is whole: from then on
    nobody waits.
    """
    lock = file.with_name(f".{file.name}.lock")
    if file.is_file() and file.stat().st_size and not lock.exists():
        yield
        return
    with made_by_one(lock):
        yield


@contextmanager
def _without_strays(uri: str) -> Iterator[None]:
    """Remove the empty folders that MLflow makes of an address whose path is quoted, and reads unquoted."""
    named = Path(uri.removeprefix(SQLITE)).absolute().parent
    missing = [folder for folder in (named, *named.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
