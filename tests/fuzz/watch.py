"""Run a command in this process and look at all that a user would see of it."""

import contextlib
import faulthandler
import hashlib
import io
import logging
import resource
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 30.0
"""Of the processor's time: a command that takes more hangs. A busy machine does not stretch them."""

PATIENCE = 1800.0
"""By the clock: a command that only waits, for a lock, say, ends the whole run of tests then."""

MEMORY = 2**30
"""Bytes of address space that a command may take beyond what the process has: a header that lies takes more."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: exit code.
        out, err: what it printed.
        asides: warnings and log lines, which a terminal shows too, but for those that `run` allows.
    """

    code: int
    out: str
    err: str
    asides: tuple[str, ...]


def run(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> Outcome:
    """Run a command under a limit of time and of memory; what it raises is a traceback to its user, and raised here.

    Beside its own lines stderr may show what Pillow (warnings) and tifffile (log lines) say of a damaged file.

    Raises:
        Hang: it takes too long.
    """
    out, err, log = io.StringIO(), io.StringIO(), _Log()
    logging.getLogger().addHandler(log)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings(record=True) as warned, _limits():
            warnings.simplefilter("always")
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = command(argv)
    finally:
        logging.getLogger().removeHandler(log)
        signal.signal(signal.SIGTERM, before)
    told = tuple(f"{w.filename}: {w.message}" for w in warned if not _is_allowed(w))
    return Outcome(code, out.getvalue(), err.getvalue(), (*log.lines, *told))


def _is_allowed(warning: warnings.WarningMessage) -> bool:
    """Pillow's words about a damaged file; and what Python tells developers only."""
    hidden = issubclass(warning.category, ResourceWarning | DeprecationWarning | PendingDeprecationWarning)
    return hidden or "PIL" in Path(warning.filename).parts


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, and a word for every folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


class Hang(BaseException):
    """A command takes too long; no `except Exception` may take this for its own."""


class _Log(logging.Handler):
    """Keeps what a terminal would show: warnings and worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != "tifffile":  # its words about a damaged file
            self.lines.append(record.getMessage())


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """An alarm for Python, a dump and an end of the process for what holds the interpreter, a ceiling for memory."""

    def stop(signum: int, frame: object) -> None:
        raise Hang(f"the command still runs after {SECONDS:g} seconds of the processor")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
