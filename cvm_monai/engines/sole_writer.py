"""One training for one output folder."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ignite.distributed as idist

from cvm_monai.engines.processes import from_first
from cvm_monai.errors import CvmError
from cvm_monai.files import NoLocksError, lock_folder

logger = logging.getLogger(__name__)

WAIT = 15.0
"""Seconds: a loader's worker sees after 5 that its training was killed, and holds the folder until then."""


@contextmanager
def sole_writer(output_dir: str | Path, *, wait: float = WAIT) -> Iterator[None]:
    """Hold the output folder while a training writes into it; every process of the training must call it.

    The first process holds it. Where the file system has no locks a warning says that nothing is guarded.

    Args:
        output_dir: made where it is missing.
        wait: seconds for which to try again; raising it bears with loader workers that outlive their training for
            longer; 0 to 60.

    Raises:
        CvmError: another training holds it, or it cannot be written; in every process.
    """
    with ExitStack() as stack:
        refusal = from_first(_hold(stack, Path(output_dir), wait=wait) if idist.get_rank() == 0 else None)
        if refusal is not None:
            raise CvmError(refusal)
        yield


def _hold(stack: ExitStack, folder: Path, *, wait: float) -> str | None:
    """Hold it until the stack is closed; why not, where that cannot be."""
    try:
        holder = stack.enter_context(lock_folder(folder, option="--output_dir", wait=wait))
    except NoLocksError:
        logger.warning("%s is on a file system without locks: see to it that one training alone writes there", folder)
        return None
    except ValueError as error:
        return str(error)
    if holder is None:
        return None
    return f"another training writes into {folder} ({holder}): wait for its end, or choose another --output_dir"
