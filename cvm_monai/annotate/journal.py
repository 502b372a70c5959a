"""Save the edits of one image's annotations: each is on disk before it is answered, and can be undone after a restart.

The annotations are the GeoJSON file itself. Beside it, a small file of the hidden folder keeps the revision, the steps
to undo and redo, and the SHA-256 of the annotations before and after the last edit. It is written first: if the program
is killed between the two, the hash of the annotations tells whether the last edit was made.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cvm_monai.annotate.history import Kind, Side, Step, keys_of, meanings
from cvm_monai.annotations.document import Classes, Document, read_document
from cvm_monai.errors import CvmError
from cvm_monai.files import read_record, read_text, sha256, sha256_of, write_bytes

STEPS = 100
"""Number of edits that can be undone."""

MISSING = ""
"""The hash of a file that does not exist."""


class StaleError(CvmError):
    """Raised for an edit of annotations that are not the current ones."""


@dataclass(frozen=True)
class Saved:
    """The saved state of an image's annotations.

    Attributes:
        document: all that is in the file.
        revision: a number that grows with every change, whoever made it.
        undo, redo: steps, the last one first to be taken.
        checked: whether the annotator has marked the image as done.
    """

    document: Document
    revision: int = 0
    undo: tuple[Step, ...] = ()
    redo: tuple[Step, ...] = ()
    checked: bool = False


@dataclass(frozen=True)
class _Disk:
    """A file as it was read or written: time, size and hash."""

    stamp: tuple[int, int] | None = None
    digest: str = MISSING


class Journal:
    """The annotations of one image. Threads may share it; another process may change the file at any time.

    Args:
        path: the GeoJSON file, which may not exist yet.
        side: the file of revision and steps.
        classes: what labels mean.
    """

    def __init__(self, path: Path, side: Path, classes: Classes) -> None:
        self.path, self.side, self.classes = path, side, classes
        self._lock = threading.RLock()
        self._disk: _Disk | None = None
        self._saved = Saved(Document({}, {}))

    def current(self) -> Saved:
        """Return the current state; reads the file again if another program has changed it.

        Raises:
            CvmError: the file is not readable as annotations.
        """
        with self._lock:
            self._refresh()
            return self._saved

    def edit(self, revision: int, change: Callable[[Document], Document]) -> Saved:
        """Save a change; returns the state when it is on disk. A change of nothing saves nothing.

        Raises:
            StaleError: `revision` is not the current one.
            CvmError: the change is refused, or the file is not readable; nothing is saved.
        """
        with self._lock:
            before = self._checked(revision)
            document = change(before.document)
            step = document.step_from(before.document)
            if not step[1]:
                return before
            undo = (*before.undo, step)[-STEPS:]
            return self._save("edit", replace(before, document=document, undo=undo, redo=()))

    def undo(self, revision: int) -> Saved:
        """Undo the last edit.

        Raises:
            StaleError: `revision` is not the current one.
            CvmError: there is none, or the file is not readable.
        """
        with self._lock:
            before = self._checked(revision)
            if not before.undo:
                raise CvmError("there is nothing to undo")
            *undo, step = before.undo
            document = before.document.changed(step[0])
            return self._save("undo", replace(before, document=document, undo=tuple(undo), redo=(*before.redo, step)))

    def redo(self, revision: int) -> Saved:
        """Repeat the edit that was undone last; errors as `undo`."""
        with self._lock:
            before = self._checked(revision)
            if not before.redo:
                raise CvmError("there is nothing to redo")
            *redo, step = before.redo
            document = before.document.changed(step[1])
            return self._save("redo", replace(before, document=document, undo=(*before.undo, step), redo=tuple(redo)))

    def check(self, checked: bool) -> Saved:
        """Mark the image as done, or not."""
        with self._lock:
            self._refresh()
            assert self._disk is not None
            self._saved = replace(self._saved, checked=checked)
            self._write_side("edit", self._saved, before=self._disk.digest, after=self._disk.digest)
            return self._saved

    def changed_on_disk(self) -> bool:
        """Read the file again if another program has changed it; returns whether it has."""
        with self._lock:
            before = self._saved.revision
            known = self._disk is not None
            self._refresh()
            return known and self._saved.revision != before

    def _checked(self, revision: int) -> Saved:
        """Return the current state.

        Raises:
            StaleError: of another revision.
        """
        self._refresh()
        if revision != self._saved.revision:
            raise StaleError("the annotations have changed meanwhile: here are the current ones")
        return self._saved

    def _refresh(self) -> None:
        """Read the file if it is not the one that was read or written last."""
        stamp = _stamp(self.path)
        if self._disk is not None and self._disk.stamp == stamp:
            return
        digest = MISSING if stamp is None else sha256(self.path)
        if self._disk is not None and self._disk.digest == digest:
            self._disk = _Disk(stamp, digest)
            return
        text = "" if stamp is None else read_text(self.path)
        if self._disk is None:
            self._saved = self._restored(text, digest)
        else:
            self._saved = self._replaced(text, digest, self._saved.revision, self._saved.checked)
        self._disk = _Disk(stamp, digest)

    def _replaced(self, text: str, digest: str, revision: int, checked: bool) -> Saved:
        """Return the state of annotations that another program has written: a new revision, nothing to undo."""
        saved = Saved(read_document(text, self.path, self.classes), revision + 1, checked=checked)
        self._write_side("edit", saved, before=digest, after=digest)
        return saved

    def _restored(self, text: str, digest: str) -> Saved:
        """Return the state of an earlier process, as far as it is of this file."""
        found = read_record(self.side) or {}
        try:
            side = Side.read(found)
        except (KeyError, TypeError, ValueError, IndexError):
            return Saved(read_document(text, self.path, self.classes))
        if digest not in (side.after, side.before) or side.classes != meanings(self.classes):
            return self._replaced(text, digest, side.revision, side.checked)
        made = digest == side.after
        document = read_document(text, self.path, self.classes, keys=side.keys if made else side.keys_before)
        document = replace(document, next_key=side.next[0], next_id=side.next[1])
        saved = Saved(document, side.revision, side.undo, side.redo, side.checked)
        return saved if made else _without_last(saved, side.last)

    def _save(self, kind: Kind, state: Saved) -> Saved:
        """Write the steps, then the annotations; returns the state with its revision."""
        assert self._disk is not None
        text = state.document.text().encode()
        state = replace(state, revision=state.revision + 1)
        self._write_side(kind, state, before=self._disk.digest, after=sha256_of(text))
        write_bytes(self.path, text)
        self._disk = _Disk(_stamp(self.path), sha256_of(text))
        self._saved = state
        return state

    def _write_side(self, kind: Kind, state: Saved, *, before: str, after: str) -> None:
        side = Side(
            revision=state.revision,
            checked=state.checked,
            classes=meanings(self.classes),
            last=kind,
            before=before,
            after=after,
            keys=keys_of(state.document.entries),
            keys_before=keys_of(self._saved.document.entries),
            next=(state.document.next_key, state.document.next_id),
            undo=state.undo,
            redo=state.redo,
        )
        write_bytes(self.side, json.dumps(side.plain(), ensure_ascii=False).encode())


def _without_last(state: Saved, last: Kind) -> Saved:
    """Return the state before the last action, which was not made; the steps to redo before an edit are lost."""
    revision = state.revision - 1
    if last == "undo" and state.redo:
        return replace(state, revision=revision, undo=(*state.undo, state.redo[-1]), redo=state.redo[:-1])
    if last == "redo" and state.undo:
        return replace(state, revision=revision, undo=state.undo[:-1], redo=(*state.redo, state.undo[-1]))
    return replace(state, revision=revision, undo=state.undo[:-1])


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return time and size of a file; None where it does not exist."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_mtime_ns, facts.st_size
