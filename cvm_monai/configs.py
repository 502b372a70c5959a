"""The configurations of a bundle as files: where they lie, YAML or JSON, and what they hold."""

from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files import read_json, read_text

SUFFIXES = (".yaml", ".yml", ".json")
"""Of configurations, in the order in which they are looked for."""


def config_file(folder: Path, name: str) -> Path:
    """The configuration of a name, such as `train`, in a folder `configs`; the first name where none is there."""
    files = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((file for file in files if file.is_file()), files[0])


def read_config(path: Path) -> dict[str, Any]:
    """What a configuration holds, as it is written: no reference is followed, nothing is executed.

    Raises:
        CvmError: no such file, one that cannot be read, or something else than entries by name.
    """
    content = _read_yaml(path) if path.suffix in (".yaml", ".yml") else read_json(path)
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise CvmError(f"{path} is no configuration: an object is expected, with entries by name")
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
