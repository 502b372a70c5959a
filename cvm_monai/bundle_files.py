"""Locate the MONAI bundle's files, and read its configurations (YAML or JSON)."""

import re
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files import read_json, read_text

PLAIN = re.compile(r"/[^#]*|[\w.-]+(/[\w. -]+)+|(?!(?:None|True|False)$)[A-Za-z][\w.-]*")
"""Paths that MONAI and Python Fire do not parse as an expression, unless they contain `::`."""
PACKAGE = Path(__file__).resolve().parent
BESIDE, INSIDE = PACKAGE.parent / "bundle", PACKAGE / "bundle"


def bundle_folder() -> Path | None:
    """Return the folder with `configs/`, `scripts/` and `docs/`; None if the package came without the bundle."""
    return next((folder for folder in (BESIDE, INSIDE) if config_file(folder / "configs", "train").is_file()), None)


def checked_bundle(folder: Path | None = None) -> Path:
    """Return `folder`, or the package's own bundle if it is None, checked to be a bundle.

    Raises:
        CvmError: not a bundle.
    """
    found = folder or bundle_folder()
    if found is None or not config_file(found / "configs", "inference").is_file():
        where = f"in {found}" if found else "beside the package"
        raise CvmError(f"there is no MONAI bundle {where}: name its folder by --bundle")
    return found.resolve()


def as_entry(path: str | Path) -> str:
    """Quote a path as an entry of a MONAI configuration or an argument of its command line.

    MONAI and Python Fire parse `#`, `::`, a leading `$`, `@` or `%`, and `a,b` as syntax: such a path is written as an
    expression with one quoted string.
    """
    text = str(path)
    if PLAIN.fullmatch(text) and "::" not in text:
        return text
    safe = "".join(c if (c.isalnum() and c.isascii()) or c in "/._- " else _escaped(c) for c in text)
    return f"$'{safe}'"


def _escaped(character: str) -> str:
    return f"\\U{ord(character):08x}"


SUFFIXES = (".yaml", ".yml", ".json")
"""Suffixes of configurations, in the order in which they are searched for."""


def config_file(folder: Path, name: str) -> Path:
    """Find the configuration of a name, such as `train`, in a folder `configs`; the first candidate if none exists."""
    files = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((file for file in files if file.is_file()), files[0])


def named_otherwise(path: Path) -> str:
    """Advise to give the configuration of the same name and another suffix, if it is there: they were JSON once."""
    other = config_file(path.parent, path.stem)
    return f"{path} does not exist: give {other}, its name now" if other.is_file() and not path.exists() else ""


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration without resolving references or evaluating expressions.

    Raises:
        CvmError: a file that is missing or unreadable, or whose content is not a mapping.
    """
    if advice := named_otherwise(path):
        raise CvmError(advice)
    content = _read_yaml(path) if path.suffix in (".yaml", ".yml") else read_json(path)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise CvmError(f"{path} is not a configuration: an object is expected, with entries by name")
    return content


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise CvmError(f"{path}{line}: not valid YAML ({reason[:200]})") from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise CvmError(f"{path}: not valid YAML ({str(error)[:200]})") from None
