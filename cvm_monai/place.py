"""Where the MONAI bundle's own files lie: beside the package in a checkout, inside it where it was installed."""

import re
from pathlib import Path

from cvm_monai.configs import config_file
from cvm_monai.errors import CvmError

PLAIN = re.compile(r"/[^#]*|[\w.-]+(/[\w. -]+)+|(?!(?:None|True|False)$)[A-Za-z][\w.-]*")
"""Paths that MONAI and Python Fire take as they are, but for `::`."""
PACKAGE = Path(__file__).resolve().parent
BESIDE, INSIDE = PACKAGE.parent / "bundle", PACKAGE / "bundle"


def bundle_folder() -> Path | None:
    """The folder that holds `configs/`, `scripts/` and `docs/`; None where this copy of the package came without."""
    return next((folder for folder in (BESIDE, INSIDE) if config_file(folder / "configs", "train").is_file()), None)


def checked_bundle(folder: Path | None = None) -> Path:
    """`folder`, or where it is None the package's own bundle.

    Raises:
        CvmError: no bundle there.
    """
    found = folder or bundle_folder()
    if found is None or not config_file(found / "configs", "inference").is_file():
        where = f"in {found}" if found else "beside the package"
        raise CvmError(f"there is no MONAI bundle {where}: name its folder by --bundle")
    return found.resolve()


def as_entry(path: str | Path) -> str:
    """A path as an entry of a MONAI configuration, or a word of its command line, that means this path and no other.

    MONAI and Python Fire read `#`, `::`, a leading `$`, `@` or `%`, and `a,b` as their own syntax: such a path is given
    as an expression of one quoted text.
    """
    text = str(path)
    if PLAIN.fullmatch(text) and "::" not in text:
        return text
    safe = "".join(c if (c.isalnum() and c.isascii()) or c in "/._- " else _escaped(c) for c in text)
    return f"$'{safe}'"


def _escaped(character: str) -> str:
    return f"\\U{ord(character):08x}"
