"""One clear sentence and exit code 2 for every error that our code detects; everything else keeps its traceback."""

import dis
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import cvm_monai
from cvm_monai.files import FULL

from .processes import say_once

LONGEST = 900
"""Characters of a sentence; a name that is longer than any file's may come in one."""
OURS = (Path(cvm_monai.__file__).parent, Path(__file__).parent)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Run a block; a ValueError that our code raised, or an error of the file system, ends the process with code 2.

    MONAI wraps what happens while a configuration is instantiated, so that the first cause is looked at.
    """
    try:
        yield
    except Exception as error:
        cause = _first_cause(error)
        if not isinstance(cause, OSError) and not (isinstance(cause, ValueError) and _is_ours(cause.__traceback__)):
            raise
        say_once(f"error: {_sentence(cause)}")
        raise SystemExit(2) from None


def _sentence(cause: BaseException) -> str:
    if isinstance(cause, OSError) and cause.errno in FULL:
        return (
            f"{cause.filename or 'a file'} cannot be written ({cause.strerror}): make room and run again, a training "
            "with --resume auto; what was whole before is kept"
        )
    words = str(cause)
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 3]}..."


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        if isinstance(error, ValueError) and _is_ours(error.__traceback__):
            break
        error = error.__cause__
    return error


def _is_ours(traceback: TracebackType | None) -> bool:
    """Whether a `raise` of this package or of these scripts raised it, rather than a call that failed there."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    raised = code.co_code[traceback.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and any(folder in Path(code.co_filename).parents for folder in OURS)
