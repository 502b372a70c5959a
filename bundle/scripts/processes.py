"""The process group of one training: join, leave, print an error once, and end if one process dies."""

import hashlib
import logging
import os
import signal
import sys
from contextlib import suppress
from datetime import timedelta
from types import FrameType

import ignite.distributed as idist
import torch
import torch.distributed as dist

from cvm_monai.errors import CvmError

LOST = (
    "another process of this training died or no longer answers, and this one cannot go on alone: torchrun's table "
    "below names it; start the training again"
)
ENDED = (
    "this training was told to end (SIGTERM), as torchrun does where another of its processes died: torchrun's table "
    "below names it; start the training again"
)
SIGNS = ("closed by peer", "reset by peer", "broken pipe", "timed out", "nccl", "gloo")
"""Phrases in the errors by which Gloo and NCCL report that a process has died."""
ASIDE = timedelta(seconds=5)
"""Seconds for which a process waits for another to print the same message."""


class Terminated(SystemExit):
    """Raised on SIGTERM; the record of the training is closed while it propagates."""


def join_processes(*, device: torch.device | str, timeout: float) -> None:
    """Join the other processes that torchrun started: over NCCL for GPUs, else over Gloo.

    Processes other than rank 0 log warnings and errors only.

    Args:
        device: of this process.
        timeout: seconds after which a process stops waiting for the others; raising it allows longer waits, such as for
            files written by rank 0 or for slower disks; 60 to 3600.

    Raises:
        CvmError: not started by torchrun, fewer GPUs than processes, or a timeout that is not a positive number.
    """
    device = torch.device(device)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise CvmError(f"--process_timeout must be a number of seconds greater than 0, got {timeout!r}")
    if not all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        raise CvmError(
            "multi_gpu_train.yaml is for several processes: start it by torchrun --nproc_per_node=N -m monai.bundle "
            "run ..., or leave it out"
        )
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise CvmError(
                f"there is no {device}, this machine has {torch.cuda.device_count()} GPUs: lower --nproc_per_node"
            )
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    idist.sync()
    signal.signal(signal.SIGTERM, _terminate)
    if idist.get_rank() > 0:
        logging.disable(logging.INFO)


def leave_processes() -> None:
    """Wait until rank 0 has written everything, then leave the process group."""
    idist.barrier()
    idist.finalize()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def is_lost(error: BaseException) -> bool:
    """Whether an error reports that another process has died."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return False
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def say_once(sentence: str) -> None:
    """Print a message on stderr; of several processes that end with the same message, only one prints it."""
    sys.stdout.flush()
    try:
        store, key = _store(), f"cvm_monai/{hashlib.sha256(sentence.encode()).hexdigest()}"
        first = store is None or store.add(key, 1) == 1
        if store is not None and not first:
            store.wait([f"{key}/said"], ASIDE)
    except RuntimeError:  # the store ended with the process that hosted it
        store, first = None, True
    if first:
        print(sentence, file=sys.stderr, flush=True)
    if first and store is not None:
        with suppress(RuntimeError):
            store.set(f"{key}/said", "")


def _store() -> dist.TCPStore | None:
    """The process group's key-value store; None in a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_PORT" not in os.environ:
        return None
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(address, port, is_master=False, timeout=ASIDE)


def _terminate(number: int, frame: FrameType | None) -> None:
    del frame
    raise Terminated(128 + number)
