"""Read class maps as users give them: the name of a ready one, a file, or text on the command line."""

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvm_monai.annotations.labels import UNCLASSIFIED, ClassMap, class_colours, label_key, label_table
from cvm_monai.errors import CvmError
from cvm_monai.files import TOO_LONG, read_json, read_table, shorten, shown

READY: Mapping[str, Mapping[str, str]] = {
    "camelyon16": {
        "Tumor": "target",
        "_0": "target",
        "_1": "target",
        "_2": "exclusion",
        "metastasis": "target",
        "metastases": "target",
        "negative": "exclusion",
        "normal": "exclusion",
    },
    "camelyon17": {"metastases": "target", "normal": "exclusion"},
}
"""Ready class maps by name. The exclusions are holes in the tumour, annotated as separate groups."""


def read_class_map(text: str | None, *, unclassified: str | None = None) -> dict[str, Any] | None:
    """Parse the value of ``--classes`` to a class map; see ``label_table`` for its entries.

    Args:
        text: JSON (it begins with a brace), pairs such as ``Tumor=target,Stroma=background``, the name of a ready map,
            or a file: JSON, or a CSV table with the columns label, class and optionally color.
            unclassified: what annotations without a label mean; overrides the map's own ``Unclassified``.

    Returns:
        The map, checked; None where neither argument is given.

    Raises:
        CvmError: malformed text, no such file, or an invalid map.
    """
    classes: dict[str, Any] | None = None if text is None else _read(text)
    if classes is not None:
        _check_meanings(classes, text or "")
    return classes if unclassified is None else with_unclassified(classes, unclassified)


def _check_meanings(classes: ClassMap, text: str) -> None:
    """Check the meanings and colours of a map; the error names the map's file if it has one."""
    try:
        class_colours(classes)  # checks the meanings as well
    except ValueError as error:
        raise CvmError(f"{text}: {error}" if _is_file(text) else str(error)) from None


def with_unclassified(classes: ClassMap | None, meaning: str | int | None) -> dict[str, Any]:
    """Return the class map with a meaning for annotations without a label; None leaves it unchanged.

    Raises:
        CvmError: an invalid meaning.
    """
    kept = dict(classes or {})
    if meaning is None:
        return kept
    kept = {key: value for key, value in kept.items() if label_key(key) != UNCLASSIFIED}
    try:
        label_table(kept | {"Unclassified": meaning})
    except ValueError as error:
        label_table(kept)  # a mistake of the map's own is said as such
        raise CvmError(f"--unclassified {meaning}: {error}") from None
    return kept | {"Unclassified": meaning}


def _read(text: str) -> dict[str, Any]:
    """Parse the map from a name, a file or text."""
    if text.lstrip().startswith("{"):
        try:
            return _checked(json.loads(text))
        except json.JSONDecodeError as error:
            reason = f"{error.msg}, column {error.colno}"
            raise CvmError(f"--classes is not valid JSON ({reason}): {shorten(text)}") from None
        except RecursionError:
            raise CvmError("--classes is not valid JSON (nested too deeply)") from None
        except ValueError:
            raise CvmError(f"--classes is {TOO_LONG}") from None
    path = Path(text)
    if not _exists(path):
        if text.strip().lower() in READY:
            return dict(READY[text.strip().lower()])
        if "=" in text:
            return _pairs(text)
        if path.suffix.lower() in (".json", ".csv"):
            raise CvmError(f"{path} does not exist")
        raise CvmError(
            f"--classes: {shorten(text)} does not exist; give a file, JSON, pairs such as "
            f"Tumor=target,Stroma=background, or one of {', '.join(READY)}"
        )
    return _table(path) if path.suffix.lower() == ".csv" else _checked(read_json(path))


def _is_file(text: str) -> bool:
    """Whether a map was given as a file."""
    return not text.lstrip().startswith("{") and _exists(Path(text))


def _exists(path: Path) -> bool:
    """Whether the file exists; False for text too long for a file name."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def _checked(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise CvmError(f'--classes must be a JSON object such as {{"Tumor": "target"}}, got {json.dumps(data)[:60]}')
    return data


def _pairs(text: str) -> dict[str, Any]:
    """Parse ``Tumor=target,Stroma=background``; the meaning follows the last equals sign."""
    found: dict[str, Any] = {}
    for pair in filter(str.strip, text.split(",")):
        name, equals, meaning = (part.strip() for part in pair.rpartition("="))
        if not equals or not name or not meaning:
            raise CvmError(f"--classes: {shown(pair.strip())} is not a pair such as Tumor=target")
        found[name] = meaning
    return found


def _table(path: Path) -> dict[str, Any]:
    """Read a CSV table with the columns label, class and optionally color."""
    found: dict[str, Any] = {}
    for line, row in read_table(path, required=("label", "class")):
        if row["label"] in found:
            raise CvmError(f"{path}, line {line}: the label {shown(row['label'])} appears twice")
        colour = row.get("color") or row.get("colour")
        found[row["label"]] = {"class": row["class"], "color": colour} if colour else row["class"]
    return found
