"""Read JSON one object at a time, with memory for one object, whatever the file's length."""

import json
import re
from collections.abc import Iterator
from io import TextIOBase
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files.text import TOO_LONG, opened

CHUNK = 2**20
"""Characters read at once."""

NEAR_THE_END = 16
"""A syntax error this close to the end of the window may be a truncated value."""

WHITE = re.compile(r"[ \t\n\r]*")

LARGEST = 2**26
"""Characters of one value, such as an object of a collection, that are always allowed; large outlines have 2**25."""

SHARE, MOST = 20, 2**28
"""Maximal characters of a value in larger files, as a multiple of the file's bytes, and in total: a document of the
Digital Slide Archive is one value."""

STREAMED = "features"
"""The key whose list is read one element at a time, at any place in the outermost object."""


def iter_json(path: Path) -> Iterator[Any]:
    """Iterate over the elements of a file's outermost list, or of the list ``features`` of its outermost object.

    Any other value is yielded as the only element.

    Raises:
        CvmError: what ``read_text`` refuses, an empty file, or malformed JSON with its line.
    """
    with opened(path) as file:
        scanner = _Scanner(file, path)
        first = scanner.peek()
        if not first:
            raise CvmError(f"{path} is empty: if nothing is annotated, remove it; otherwise export it again")
        if first == "[":
            yield from scanner.elements()
        elif first == "{":
            yield from scanner.members()
        else:
            yield scanner.value()
        if scanner.peek():
            raise scanner.mistake("more than one value", scanner.at)


class _Scanner:
    """Moving window on the text, from which values are parsed."""

    def __init__(self, file: TextIOBase, path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.at, self.ended = "", 0, False
        self.lines, self.before = 0, 0
        self.decoder = json.JSONDecoder()
        self.largest = max(LARGEST, min(MOST, SHARE * path.stat().st_size))

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end of the file."""
        while True:
            white = WHITE.match(self.text, self.at)
            self.at = self.at if white is None else white.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self._more()

    def value(self) -> Any:
        """Parse the next value."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except RecursionError:
                raise CvmError(f"{self.path}: not valid JSON (nested too deeply)") from None
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self.text) - NEAR_THE_END or error.msg.startswith("Unterminated string")
                if self.ended or not cut:
                    raise self.mistake(error.msg, error.pos) from None
                self._more()
                continue
            except ValueError:
                raise CvmError(f"{self.path}: {TOO_LONG}") from None
            if end < len(self.text) or self.ended:  # otherwise a number may continue
                self.at = end
                return value
            self._more()

    def elements(self) -> Iterator[Any]:
        """Iterate over the elements of the list that begins here."""
        self._take("[")
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            yield self.value()
            if self._take(",]") == "]":
                return

    def members(self) -> Iterator[Any]:
        """Iterate over ``features`` of the object that begins here; without that key, yield the object."""
        whole: dict[str, Any] = {}
        streamed = False
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            yield whole
            return
        while True:
            key = self.value() if self.peek() == '"' else self._take('"')
            self._take(":")
            if key == STREAMED and self.peek() == "[":
                streamed = True
                yield from self.elements()
            else:
                whole[key] = self.value()
            if self._take(",}") == "}":
                break
        if not streamed:
            yield whole

    def mistake(self, message: str, at: int) -> CvmError:
        """Return the error for a mistake at a position of the window."""
        line = self.lines + self.text.count("\n", 0, at) + 1
        start = self.text.rfind("\n", 0, at)
        column = at - start + (self.before if start < 0 else 0)
        return CvmError(f"{self.path}, line {line}: not valid JSON ({message}, column {column})")

    def _take(self, allowed: str) -> str:
        """Read the next character, which must be one of these."""
        found = self.peek()
        if not found or found not in allowed:
            raise self.mistake(f"Expecting {' or '.join(map(repr, allowed))}", self.at)
        self.at += 1
        return found

    def _more(self) -> None:
        """Drop the parsed text and read at least as much as remains, so that retries stay few."""
        self.lines += self.text.count("\n", 0, self.at)
        start = self.text.rfind("\n", 0, self.at)
        self.before = self.at - start - 1 + (self.before if start < 0 else 0)  # dropped characters of the current line
        rest = self.text[self.at :]
        if len(rest) > self.largest:
            raise CvmError(
                f"{self.path}, line {self.lines + 1}: one object of more than {self.largest // 10**6} million "
                "characters, too long for an annotation"
            )
        more = self.file.read(max(CHUNK, len(rest)))
        self.text, self.at, self.ended = rest + more, 0, not more
