"""Check the paths of a run as they were written, since MONAI interprets some of their characters as its own syntax."""

import ast
import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from cvm_monai.engines.workflow import COMMAND, active_parser, read_nulls, running_parser
from cvm_monai.errors import CvmError
from cvm_monai.files import shorten, shown
from cvm_monai.knob_kinds import LONGEST_PATH
from cvm_monai.knobs import plain_path_names

from .errors import exit_on_error

FOLDERS = ("dataset_dir", "output_dir")
"""Entries that hold one path in every configuration."""
PATHS = plain_path_names()
"""Entries that hold a path, or None."""
COMPUTED = ("tracking_uri", "knobs")
"""Entries computed from the paths, resolved here first, so that an error in them ends as one sentence."""
REFERENCE = re.compile(r"@[A-Za-z_]\w*")


def begin() -> None:
    """Start a run: set knobs typed as `null` to None, and check the typed names and the paths."""
    read_nulls()
    with exit_on_error():
        check_typed_names(running_parser("begin").get() or {}, sys.argv)
    check_places()


def check_typed_names(config: Mapping[str, Any], words: Sequence[str]) -> None:
    """Refuse a misspelt option of the command line, which MONAI would add as an entry that nothing reads.

    An option is misspelt if nothing in the configuration refers to it, and its name resembles one that something does.

    Args:
        config: the running configuration, with the typed entries in it.
        words: of the command line of `python -m monai.bundle`.
    """
    if not words or not words[0].endswith(COMMAND):
        return
    used = set(REFERENCE.findall(json.dumps(config, default=str)))
    known = [name for name in map(str, config) if f"@{name}" in used]
    for word in words[1:]:
        name = word.partition("=")[0].lstrip("-").replace("-", "_")
        if word.startswith("--") and name in config and name not in known:
            for near in get_close_matches(name, known, n=1, cutoff=0.8):
                raise CvmError(f"--{name} is not a knob of this configuration: did you mean --{near}?")


def check_places() -> None:
    """Check the paths of the running configuration before they are used; see `check_place`."""
    parser = running_parser("check_places")
    with exit_on_error():
        for name in PATHS:
            if name in parser:
                check_place(name, parser.get(name), typed=typed(name, sys.argv))
    for name in COMPUTED:
        with suppress(Exception), exit_on_error():  # other errors recur where MONAI names the entry
            if name in parser:
                parser.get_parsed_content(name)


def typed(name: str, words: Sequence[str]) -> str | None:
    """Find the text that the command line of `python -m monai.bundle` gives to an entry; None if there is none."""
    if not words or not words[0].endswith(COMMAND):
        return None
    found = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        option, equals, value = word.partition("=")
        if option.startswith("-") and option.lstrip("-").replace("-", "_") == name:
            found = value if equals else following
    return found


def check_place(name: str, written: Any, *, typed: str | None = None) -> None:
    """Refuse a path that MONAI would misread: a folder's name may contain MONAI's own syntax.

    A configuration may compute a path by reference to another entry, `$... @bundle_root ...`, or by an object
    (`_target_`); neither is checked.

    Args:
        name: of the entry.
        written: in the configuration, after MONAI has replaced each `#` by `::`.
        typed: on the command line, where Python Fire removes what follows a `#`, and brackets.

    Raises:
        CvmError: the message says how MONAI would read it, and how to write it.
    """
    if isinstance(written, dict) and "_target_" in written:
        return
    if written is None and name not in FOLDERS:
        return
    if not isinstance(written, str):
        _refuse_value(name, written)
    elif written[:1] in ("$", "@"):
        if not _is_computed(written):
            what = "runs a value that begins with '$'" if written[0] == "$" else "looks '@' up among its entries"
            raise CvmError(
                f"--{name} {shorten(written)}: MONAI {what}: for a folder of that name write ./{shorten(written)}"
            )
    elif "::" in written or (typed is not None and "#" in typed):
        raise CvmError(
            f"--{name} {shorten(typed or written)}: MONAI reads '#' and '::' as steps into its configuration, so that "
            "this path cannot be given: rename the folder, or go into it and give the rest of the path"
        )
    elif typed is not None and typed != written and typed.strip("'\"") != written:
        raise CvmError(
            f"--{name} {shorten(typed)} is read as {shown(written)}: for a folder of that name write ./{shorten(typed)}"
        )
    elif (name in FOLDERS and not written.strip()) or "\0" in written or len(written) > LONGEST_PATH:
        raise CvmError(f"--{name} must be a path or an address, got {shown(written)}")


def _refuse_value(name: str, written: Any) -> None:
    """Refuse a text that Python Fire has read as a number, a list or another value."""
    if isinstance(written, list | tuple) and written and all(isinstance(part, str | int | float) for part in written):
        text = ",".join(map(str, written))
        raise CvmError(
            f"--{name} must be a path, and {shorten(text)} is read as a list: for a folder of that name write "
            f"./{shorten(text)}"
        )
    raise CvmError(
        f"--{name} must be a path or an address, got {shown(written)}: for a folder of that name write "
        f"./{shorten(str(written))}"
    )


def _is_computed(written: str) -> bool:
    """Whether a configuration computes the path: from another entry of its own, or from one quoted text."""
    if written[0] == "@":
        return REFERENCE.fullmatch(written) is not None and _has(written[1:])
    try:
        return isinstance(ast.literal_eval(written[1:]), str)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return any(_has(found[1:]) for found in REFERENCE.findall(written))


def _has(entry: str) -> bool:
    parser = active_parser()
    return parser is not None and entry in parser
