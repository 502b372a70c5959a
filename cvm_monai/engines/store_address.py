"""Addresses of MLflow's databases in a file, made and read by the library that opens them."""

from pathlib import Path

from cvm_monai.errors import CvmError
from cvm_monai.files import shown

SQLITE = "sqlite:///"
OPTIONS = frozenset(
    [
        "cache",
        "cached_statements",
        "check_same_thread",
        "detect_types",
        "immutable",
        "isolation_level",
        "mode",
        "nolock",
        "psow",
        "timeout",
        "uri",
        "vfs",
    ]
)
"""What may follow `?` in such an address."""


def sqlite_address(file: str | Path) -> str:
    """The address of a database file whose path may hold any character.

    The path stands there as it is where it is read back so, and quoted by SQLAlchemy where it is not; MONAI's `#` and
    `::` are always quoted, since the address may travel as an entry of a configuration.

    Raises:
        CvmError: this version of SQLAlchemy has no address for it.
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
    """The file of a database by its address; None for another store.

    Raises:
        CvmError: an address that means no file, or that holds a `?` of the file's name.
    """
    if not uri.startswith(SQLITE):
        return None
    path, words = _read(uri), uri.partition("?")[2]
    unknown = [word for word in words.split("&") if words and word.partition("=")[0] not in OPTIONS]
    if path is None or unknown:
        raise CvmError(
            f"tracking_uri {shown(uri)} is no address of a database file: use sqlite:////path/mlruns.db, with %3F for "
            "a '?' of the path and %25 for a '%'"
        )
    return Path(path)


def artifact_folder(uri: str, *, output_dir: str | Path) -> Path:
    """Where the files of runs belong: `mlruns` beside a local database, else below the output folder."""
    file = database_file(uri)
    return (Path(output_dir) if file is None else file.absolute().parent) / "mlruns"


def _read(address: str) -> str | None:
    """The path that SQLAlchemy opens; None where it finds none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(address).database or None
    except (ArgumentError, ValueError):
        return None
