"""The files of MLflow's runs where a database was moved or copied with its folder: it learns where they are now."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cvm_monai.engines.store_address import database_file

PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""Tables of MLflow's databases and their columns that hold addresses of files."""


def follow_move(uri: str, *, recorded: str, now: Path) -> bool:
    """Let a local database find its runs' files below `now`; returns whether it had them in another folder.

    The database was moved where the folder that it names is gone, and copied where another database of its name lies
    beside that folder. All addresses below that folder change then; MLflow has no call for it.

    Args:
        uri: of the store; of a server nothing changes.
        recorded: address of the files of an experiment, or of a run, `.../RUN_ID/artifacts`, as the store has it.
        now: where the files of its experiments belong.
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
    """Change the addresses in a column; a version of MLflow may lack it."""
    if column in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
        size = len(former)
        database.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
            (now, size + 1, former, size + 1, f"{former}/"),
        )


def _forget_places() -> None:
    """MLflow remembers in its process where the files of a run are."""
    with suppress(ImportError, AttributeError):
        from mlflow.tracking._tracking_service import utils

        utils._artifact_repos_cache.clear()


def _local(address: str) -> Path | None:
    """The folder of a `file:` address; None for another."""
    parts = urlsplit(address or "")
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None
