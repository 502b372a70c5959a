"""Turn every error that our code detects into one sentence and exit code 2; other errors keep their traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from cvm_monai.errors import CvmError
from cvm_monai.files import FULL

from .processes import say_once

LONGEST = 900
"""Maximum length of the message; it may quote a name longer than any file name."""

WORKER = "Original Traceback (most recent call last)"
"""Marks an error from a loader worker: torch puts the worker's traceback first, the error's own text last."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Run a block; a CvmError or an error of the file system ends the process with code 2.

    MONAI wraps exceptions raised while a configuration is instantiated, so the original cause is searched.
    """
    try:
        yield
    except Exception as error:
        cause = _first_cause(error)
        if not isinstance(cause, OSError | CvmError):
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
    if WORKER in words:
        words = words.rpartition(f"{type(cause).__name__}: ")[2].strip()
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 3]}..."


def _first_cause(error: BaseException) -> BaseException:
    """The outermost CvmError of a chain, or else its innermost cause."""
    while error.__cause__ is not None and not isinstance(error, CvmError):
        error = error.__cause__
    return error
