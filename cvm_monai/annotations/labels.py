"""From the label a file carries to a class index."""

import json
from collections.abc import Mapping
from typing import Literal, get_args

from cvm_monai.annotations.model import BACKGROUND, TARGET, UNLABELLED

Meaning = Literal["background", "target", "exclusion", "skip"]
"""What a label may mean; an annotation that is to be skipped is left out and counted."""

SKIP = -1
UNCLASSIFIED = "unclassified"
"""The key of a class map that speaks for annotations without any label."""

_INDEX: dict[str, int] = dict(zip(get_args(Meaning), (BACKGROUND, TARGET, UNLABELLED, SKIP), strict=True))
_KNOWN: dict[str, int] = {
    name: index for meaning, index in _INDEX.items() if index != SKIP for name in (meaning, str(index))
}


def label_table(classes: Mapping[str, str | int] | None = None) -> dict[str, int]:
    """Every label that can be read, in lower case, with its class index (255 = exclusion, -1 = skip).

    ``target`` or 1, ``background`` or 0 and ``exclusion`` or 255 are always known; ``classes`` adds to them and wins.

    Args:
        classes: class map such as ``{"Tumor": "target", "Stroma": "background", "Region*": "skip"}``; its keys are
            compared without regard to case, its values are one of ``Meaning`` or the index itself; the key
            ``Unclassified`` speaks for annotations without a label.

    Raises:
        ValueError: a value that is no meaning, or two keys that differ in case only.
    """
    table = dict(_KNOWN)
    seen: dict[str, str] = {}
    for key, value in (classes or {}).items():
        name = str(key).strip().lower()
        if name in seen:
            raise ValueError(f"the class map names {seen[name]!r} and {key!r}, which are the same label: keep one")
        seen[name] = key
        index = _INDEX.get(meaning := str(value).strip().lower(), _KNOWN.get(meaning))
        if index is None or isinstance(value, bool):
            raise ValueError(f"the class map gives {key!r} the meaning {value!r}: use one of {', '.join(_INDEX)}")
        table[name] = index
    return table


def find_label(label: object, table: Mapping[str, int], *, where: str) -> int:
    """The class index of a label as it stands in a file; None is a missing one.

    Raises:
        ValueError: a label outside the table; ``where`` says where it was found.
    """
    name = "" if label is None else str(label).strip()
    index = table.get(name.lower() or UNCLASSIFIED)
    if index is not None:
        return index
    found = f"unknown label {name!r}" if name else "an annotation without a label"
    remedy = json.dumps({name or "Unclassified": "target"}, ensure_ascii=False)
    raise ValueError(f"{where}: {found}; allowed are {_allowed(table)}; map others by --classes '{remedy}'")


def _allowed(table: Mapping[str, int]) -> str:
    """The names of the table in words: ``background (0), target (1), exclusion (255), tumor``."""
    names = [f"{meaning} ({index})" for meaning, index in _INDEX.items() if index != SKIP]
    return ", ".join([*names, *(name for name in table if name not in _KNOWN)])
