"""The file beside an image's annotations: revision, steps to undo and redo, and what the last edit was made of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cvm_monai.annotations.document import Classes, Entry, Steps
from cvm_monai.files import sha256_of

Kind = Literal["edit", "undo", "redo"]
Step = tuple[Steps, Steps]
"""The entries that an edit changes, before and after it."""


@dataclass(frozen=True)
class Side:
    """The content of the file beside the annotations."""

    revision: int
    checked: bool
    classes: str
    last: Kind
    before: str
    after: str
    keys: Sequence[tuple[int, Sequence[int]]]
    keys_before: Sequence[tuple[int, Sequence[int]]]
    next: tuple[int, int]
    undo: tuple[Step, ...] = field(default=())
    redo: tuple[Step, ...] = field(default=())

    def plain(self) -> dict[str, Any]:
        """Return the content as JSON values."""
        return {
            **vars(self),
            "undo": [[_plain(part) for part in step] for step in self.undo],
            "redo": [[_plain(part) for part in step] for step in self.redo],
        }

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "Side":
        """Read the content.

        Raises:
            KeyError, TypeError, ValueError, IndexError: it is not such a content.
        """
        steps = {name: tuple((_steps(one[0]), _steps(one[1])) for one in found[name]) for name in ("undo", "redo")}
        keys = {name: [(int(key), tuple(ids)) for key, ids in found[name]] for name in ("keys", "keys_before")}
        return cls(
            int(found["revision"]),
            bool(found["checked"]),
            str(found["classes"]),
            found["last"],
            str(found["before"]),
            str(found["after"]),
            keys["keys"],
            keys["keys_before"],
            (int(found["next"][0]), int(found["next"][1])),
            steps["undo"],
            steps["redo"],
        )


def meanings(classes: Classes) -> str:
    """Return a hash of what labels mean: steps that were made with other meanings cannot be undone."""
    return sha256_of(json.dumps(sorted(classes.table.items())).encode())


def keys_of(entries: Mapping[int, Entry]) -> list[tuple[int, Sequence[int]]]:
    """Pair each entry's key with the ids of its points and regions."""
    return [(key, entry.ids) for key, entry in entries.items()]


def _plain(steps: Steps) -> dict[str, Any]:
    return {
        str(key): None if entry is None else [entry.feature, entry.ids, entry.label] for key, entry in steps.items()
    }


def _steps(found: Mapping[str, Any]) -> Steps:
    return {
        int(key): None if entry is None else Entry(entry[0], tuple(entry[1]), int(entry[2]))
        for key, entry in found.items()
    }
