"""Map the labels in annotation files to class indices."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from cvm_monai.annotations.model import BACKGROUND, TARGET, UNLABELLED, Colour
from cvm_monai.annotations.parsed_object import read_colour
from cvm_monai.errors import CvmError
from cvm_monai.files import shorten, shown

ClassMap = Mapping[str, str | int | Mapping[str, Any]]
"""Label -> a meaning or a number, or an entry with a colour: ``{"class": "target", "color": [200, 0, 0]}``."""

Meaning = Literal["background", "target", "exclusion", "skip"]
"""What a label may mean; an annotation with `skip` is left out and counted."""

SKIP = -1
UNCLASSIFIED = "unclassified"
"""The key of a class map for annotations without a label."""

SHOWN = 5
"""Number of labels in an example."""

LISTED = 20
"""Number of unknown labels that a message names; the rest is counted."""

SUGGESTED: tuple[tuple[tuple[str, ...], Meaning], ...] = (
    (("ignore", "artefact", "artifact", "exclu"), "exclusion"),
    (("region", "tissue"), "skip"),
    (("stroma", "normal", "negative", "background", "benign", "healthy", "other", "non"), "background"),
)
"""Parts of label names and the meanings that they suggest, for examples."""

DIGITS = 18
"""Length of the longest label that is read as a mask value."""

LAST_CLASS = UNLABELLED - 1
"""Largest class number: labels are stored in eight bits."""

_INDEX: dict[str, int] = dict(zip(get_args(Meaning), (BACKGROUND, TARGET, UNLABELLED, SKIP), strict=True))
_KNOWN: dict[str, int] = {
    name: index for meaning, index in _INDEX.items() if index != SKIP for name in (meaning, str(index))
}


def label_table(classes: ClassMap | None = None) -> dict[str, int]:
    """Return the class index of every known label, in lower case (255 = exclusion, -1 = skip).

    ``target`` or 1, ``background`` or 0 and ``exclusion`` or 255 are always known; ``classes`` adds to and overrides
    them. The numbers of further classes are labels as well.

    Args:
        classes: class map such as ``{"Tumor": "target", "Stroma": "background", "Region*": "skip"}``; its keys are
            case-insensitive, its values one of ``Meaning`` or the index itself; the key ``Unclassified`` is for
            annotations without a label. A value may have a colour, see ``ClassMap``. Further foreground classes have
            the numbers 2, 3, and so on, without a gap: ``{"Lymphocytes": 2}``; a value may also name a key that has a
            number.

    Raises:
        CvmError: an invalid value, two keys that differ in case only, or class numbers with a gap.
    """
    table = dict(_KNOWN)
    seen: dict[str, str] = {}
    for key, value in (classes or {}).items():
        name = label_key(key)
        if name in seen:
            raise CvmError(
                f"the class map names {shown(seen[name])} and {shown(key)}, which are the same label: keep one"
            )
        seen[name] = key
        index = _meaning(value, classes or {})
        if index is None:
            raise CvmError(
                f"the class map gives {shown(key)} the meaning {shown(value)}: use one of "
                f"{', '.join(_INDEX)}, or the number of a further class, from 2"
            )
        table[name] = index
    return _with_numbers(table)


def label_key(label: object) -> str:
    """Normalise a label for comparison: without surrounding blanks, in lower case, in one Unicode normal form."""
    return unicodedata.normalize("NFC", str(label)).strip().lower()


def without_numbers(table: Mapping[str, int], classes: ClassMap | None) -> dict[str, int]:
    """Return the table without number labels that are not keys of the class map, for formats whose labels are names.

    Otherwise the annotation numbers of some programs would be read as class numbers.
    """
    given = {label_key(key) for key in classes or {}}
    return {label: index for label, index in table.items() if label in given or not label.isdecimal()}


def label_number(label: str) -> int | None:
    """Return the mask value that a label states as a number; None for other text or a number that is too long."""
    return int(label) if label.isdecimal() and len(label) <= DIGITS else None


def class_names(classes: ClassMap | None = None) -> dict[str, int]:
    """Return the number of each class of a class map by name: background, target, and further ones by their first key.

    A class that has only a number in the map is named ``class 2``.

    Raises:
        CvmError: as ``label_table``.
    """
    table = label_table(classes)
    names = {"background": BACKGROUND, "target": TARGET}
    for index in range(2, _count(table)):
        spoken = [name for name in table if table[name] == index and not name.isdecimal()]
        names[spoken[0] if spoken else f"class {index}"] = index
    return names


def class_colours(classes: ClassMap | None = None) -> dict[int, Colour]:
    """Return the colour of each label (255 = exclusion) that has one in a class map; a class's first key wins.

    Raises:
        CvmError: as ``label_table``, or an invalid colour.
    """
    table = label_table(classes)
    colours: dict[int, Colour] = {}
    for key, value in (classes or {}).items():
        given = value.get("color", value.get("colour")) if isinstance(value, Mapping) else None
        if given is None:
            continue
        colour = read_colour(list(given) if isinstance(given, tuple) else given)
        if colour is None:
            raise CvmError(
                f"the class map gives {shown(key)} the colour {shown(given)}: use [red, green, blue], or '#c80000'"
            )
        colours.setdefault(table[label_key(key)], colour)
    return {label: colour for label, colour in colours.items() if label != SKIP}


def _meaning(value: object, classes: ClassMap, *, follow: bool = True) -> int | None:
    """Return the class index of a value of the class map; None where it is invalid."""
    value = value.get("class") if isinstance(value, Mapping) else value
    if value is None or isinstance(value, bool):
        return None
    text = label_key(value)
    index = _INDEX.get(text, _KNOWN.get(text))
    if index is None and (number := label_number(text)) is not None and 2 <= number <= LAST_CLASS:
        index = number
    if index is None and follow:
        other = next((classes[key] for key in classes if label_key(key) == text), None)
        index = None if other is None else _meaning(other, classes, follow=False)
    return index


def _count(table: Mapping[str, int]) -> int:
    """Return the number of classes in a table."""
    return max(index for index in table.values() if index != UNLABELLED) + 1


def _with_numbers(table: dict[str, int]) -> dict[str, int]:
    """Add the numbers of the further classes, which must be consecutive, to the table as labels."""
    numbers = {index for index in table.values() if index not in (SKIP, UNLABELLED)}
    missing = sorted(set(range(2, _count(table))) - numbers)
    if missing:
        raise CvmError(
            f"the class map has a class {max(numbers)} but no class {missing[0]}: number the classes without a gap"
        )
    return table | {str(index): index for index in sorted(numbers) if index > TARGET and str(index) not in table}


class UnknownLabelsError(CvmError):
    """Labels that are missing in the class map.

    Attributes:
        labels: number of objects with each label; None is the key of those without a label.
        fault: the error without its remedy.
    """

    def __init__(self, where: str, labels: Mapping[str | None, int], table: Mapping[str, int]) -> None:
        self.labels = dict(labels)
        self.fault = f"{where}: {_listed(self.labels)}; allowed are {_allowed(table)}"
        super().__init__(f"{self.fault}; {_remedy(self.labels)}")


def find_label(label: object, table: Mapping[str, int], *, where: str) -> int:
    """Return the class index of a label as written in a file; None is a missing label.

    Raises:
        CvmError: a label that is not in the table; ``where`` is its place, for the message.
    """
    name = "" if label is None else str(label).strip()
    index = look_up(name or None, table)
    if index is None:
        raise UnknownLabelsError(where, {name or None: 1}, table)
    return index


def look_up(label: str | None, table: Mapping[str, int], *, groups: Sequence[str] = ()) -> int | None:
    """Return the class index of a label, or else of its nearest known group; None where all are unknown."""
    for name in (label, *groups):
        index = table.get(label_key(name or "") or UNCLASSIFIED)
        if index is not None:
            return index
    return None


def _listed(labels: Mapping[str | None, int]) -> str:
    """List the unknown labels in words, the most frequent first."""
    if sum(labels.values()) == 1:
        (name,) = labels
        return "an annotation without a label" if name is None else f"unknown label {shown(name)}"
    ordered = sorted(labels.items(), key=lambda item: -item[1])
    named = [f"{shown(name)} ({count})" for name, count in ordered if name is not None]
    more = f" and {len(named) - LISTED} more" if len(named) > LISTED else ""
    parts = [f"unknown label{'s' * (len(named) > 1)} {', '.join(named[:LISTED])}{more}"] if named else []
    if without := labels.get(None):
        parts.append(f"{without} annotation{'s' * (without > 1)} without a label")
    return " and ".join(parts)


def example_map(labels: Mapping[str | None, int]) -> dict[str, str]:
    """Make an example class map for unknown labels, with the meaning that each name suggests."""
    return {shorten(name): _likely(name) for name in list(filter(None, labels))[:SHOWN]}


def _likely(name: str) -> Meaning:
    """Guess a meaning from a label's name."""
    for words, meaning in SUGGESTED:
        if any(word in name.lower() for word in words):
            return meaning
    return "target"


def _remedy(labels: Mapping[str | None, int]) -> str:
    """Say which option to add to the command, with an example class map."""
    named = [name for name in labels if name is not None]
    example = example_map(labels)
    if not named:
        return """map others by --classes '{"Unclassified": "target"}' or --unclassified target"""
    remedy = f"map others by --classes '{json.dumps(example, ensure_ascii=False)}'"
    return f"{remedy} --unclassified target" if None in labels else remedy


def _allowed(table: Mapping[str, int]) -> str:
    """List the labels of the table in words: ``background (0), target (1), exclusion (255), tumor``."""
    names = [f"{meaning} ({index})" for meaning, index in _INDEX.items() if index != SKIP]
    return ", ".join([*names, *(name for name in table if name not in _KNOWN)])
