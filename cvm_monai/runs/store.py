"""MLflow's stores: their addresses, checks before they are used, locked creation, and databases that were moved."""

import os
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cvm_monai.errors import CvmError
from cvm_monai.files import made_by_one, shown
from cvm_monai.runs.folder import RunFolder

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's default of 7 delays a training for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

OFF = "none"
DATABASE = "mlruns.db"
SQLITE = "sqlite:///"
OPTIONS = (
    *("cache", "cached_statements", "check_same_thread", "detect_types", "immutable", "isolation_level"),
    *("mode", "nolock", "psow", "timeout", "uri", "vfs"),
)
"""Parameters that may follow `?` in such an address."""


def sqlite_address(file: str | Path) -> str:
    """Build the address of a database file whose path may hold any character.

    The path is left unquoted if SQLAlchemy reads it back unchanged, and quoted otherwise; MONAI's `#` and `::` are
    always quoted, since the address may be an entry of a configuration.

    Raises:
        CvmError: this version of SQLAlchemy cannot address the file.
    """
    from sqlalchemy.engine import URL

    path = str(Path(file).absolute())
    plain = f"{SQLITE}{path}"
    quoted = URL.create("sqlite", database=path).render_as_string(hide_password=False)
    for address in (quoted,) if "#" in path or "::" in path else (plain, quoted):
        if _read(address) == path:
            return address
    raise CvmError(
        f"the database {path} cannot be named in an address by this version of SQLAlchemy: choose a folder whose name "
        "has no '?', '#' and '%'"
    )


def database_file(uri: str) -> Path | None:
    """Extract the database file from an address; None for another kind of store.

    Raises:
        CvmError: the address names no file, or contains a `?` that belongs to the file's name.
    """
    if not uri.startswith(SQLITE):
        return None
    path, words = _read(uri), uri.partition("?")[2]
    unknown = [word for word in words.split("&") if words and word.partition("=")[0] not in OPTIONS]
    if path is None or unknown:
        raise CvmError(
            f"tracking_uri {shown(uri)} is not the address of a database file: use sqlite:////path/mlruns.db, with %3F "
            "for a '?' of the path and %25 for a '%'"
        )
    return Path(path)


def artifact_folder(uri: str, *, output_dir: str | Path) -> Path:
    """Folder of the runs' artifacts: `mlruns` beside a local database, else below the output folder."""
    file = database_file(uri)
    return (Path(output_dir) if file is None else file.absolute().parent) / "mlruns"


def default_tracking_uri(*, output_dir: str) -> str:
    """Return MLFLOW_TRACKING_URI if it is set, else the address of a SQLite file in the output folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_address(Path(output_dir).resolve() / DATABASE)


def check_tracking_uri(uri: str) -> None:
    """Raise CvmError if MLflow does not accept this kind of address, or no server answers at it."""
    if uri == OFF:
        return
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme in ("http", "https"):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5):
                return
        except (OSError, HTTPException) as error:
            raise CvmError(
                f"no MLflow server answers at {uri} ({getattr(error, 'reason', error)}): start it, or pass "
                "--tracking_uri none to train without tracking"
            ) from error
    if scheme in ("", "file"):
        raise CvmError(
            f"tracking_uri {uri!r} is a folder, which MLflow no longer accepts: use sqlite:////path/mlruns.db, the "
            "address of a server, or none"
        )
    database_file(uri)


def recorded_store(uri: str, *, output_dir: str | Path) -> str:
    """Find the store that a training recorded: at its address, or as `mlruns.db` of an output folder that moved.

    For a copied folder it is the copy's store. The check is needed since MLflow creates a missing database silently.

    Raises:
        CvmError: no address, neither file exists, or the file is not an MLflow database.
    """
    if not isinstance(uri, str):
        raise CvmError(f"the training in {output_dir} recorded {shown(uri)} as its MLflow store: train again")
    file = database_file(uri)
    if file is None:
        return uri
    moved = Path(output_dir).resolve() / DATABASE
    if file.is_file() and not _holds_run_of(moved, RunFolder(output_dir)):
        check_database(file)
        return uri
    if not moved.is_file():
        raise CvmError(
            f"the MLflow database that the training in {output_dir} recorded, {file}, does not exist, nor does "
            f"{moved}: restore it, or train again"
        )
    check_database(moved)
    return sqlite_address(moved)


def _holds_run_of(database: Path, record: RunFolder) -> bool:
    """Whether a database contains the run that a training recorded."""
    run_id = record.known.get("mlflow_run_id")
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as found:
            return found.execute("SELECT 1 FROM runs WHERE run_uuid = ?", [run_id]).fetchone() is not None
    except sqlite3.Error:
        return False


def check_database(file: Path) -> None:
    """Check a database without changing it; MLflow would create its tables in an empty one.

    Raises:
        CvmError: it is damaged, or not an MLflow database.
    """
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone()
    except sqlite3.Error as error:
        raise CvmError(f"the MLflow database {file} is damaged ({error}): restore it, or train again") from error
    if found is None:
        raise CvmError(f"{file} is not an MLflow database: restore it, or train again")


def _read(address: str) -> str | None:
    """Return the path that SQLAlchemy opens; None if it finds none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(address).database or None
    except (ArgumentError, ValueError):
        return None


PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""Tables and columns of MLflow's databases that hold file addresses."""


def follow_move(uri: str, *, recorded: str, now: Path) -> bool:
    """Update a local database's artifact addresses to the folder `now`; returns whether they named another folder.

    The database was moved if the folder that it names is missing, and copied if another database of its name lies
    beside that folder. All addresses below that folder are rewritten; MLflow has no call for it.

    Args:
        uri: of the store; a server is left unchanged.
        recorded: artifact address of an experiment, or of a run, `.../RUN_ID/artifacts`, as stored.
        now: current folder of its experiments' artifacts.
    """
    file, old, new = database_file(uri), _local(recorded), now.resolve()
    if file is None or old is None:
        return False
    old = old.parents[1] if old.name == "artifacts" and len(old.parents) > 1 else old
    other = old.parent / file.name
    copied = other.is_file() and not other.samefile(file)
    if old == new or (old.is_dir() and not copied):
        return False
    with closing(sqlite3.connect(file, timeout=30)) as database, database:
        for table, column in PLACES:
            _change(database, table, column, former=old.as_uri(), now=new.as_uri())
    _forget_places()
    return True


def _change(database: sqlite3.Connection, table: str, column: str, *, former: str, now: str) -> None:
    """Rewrite the addresses in a column; skipped if this version of MLflow lacks the column."""
    if column in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
        size = len(former)
        database.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (now, size + 1, former, size + 1, f"{former}/"),
        )


def _forget_places() -> None:
    """Clear MLflow's in-process cache of artifact locations."""
    with suppress(ImportError, AttributeError):
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()


def _local(address: str) -> Path | None:
    """Return the folder of a `file:` address; None for another."""
    parts = urlsplit(address or "")
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def client_of(uri: str) -> Any:
    """Open MLflow's client of a store, which also accesses its model registry.

    Raises:
        CvmError: the database cannot be used.
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
            if file is not None and "%" in uri:  # the registry opens at its first query, and makes strays too
                client.search_registered_models(max_results=1)
            return client
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = " ".join(str(getattr(error, "orig", error)).split())[:200]
        raise CvmError(f"MLflow cannot use {uri} ({reason}): name another store, or restore this one") from error


def _check_place(file: Path) -> None:
    """Check that a database can be opened; MLflow would retry for a minute."""
    folder = file.absolute().parent
    if file.is_dir() or not folder.is_dir():
        what = "is a folder" if file.is_dir() else f"cannot be made: there is no folder {folder}"
        raise CvmError(f"the MLflow database {file} {what}; name another")
    if not os.access(file if file.exists() else folder, os.R_OK | os.W_OK):
        raise CvmError(f"the MLflow database {file} cannot be written: name another, or change its permissions")


@contextmanager
def _made_by_one(file: Path) -> Iterator[None]:
    """Hold a lock beside a database that is missing, or that another process is creating, until it is complete.

    MLflow's migrations fail if two processes run them. The lock file is removed once the database is complete; later
    calls do not wait.
    """
    lock = file.with_name(f".{file.name}.lock")
    if file.is_file() and file.stat().st_size and not lock.exists():
        yield
        return
    with made_by_one(lock):
        yield


@contextmanager
def _without_strays(uri: str) -> Iterator[None]:
    """Remove the empty folders that MLflow creates for a quoted path that it reads unquoted."""
    named = Path(uri.removeprefix(SQLITE)).absolute().parent
    missing = [folder for folder in (named, *named.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
