"""Join and leave the process group, as the first and last step of a configuration for several processes."""

from typing import Any

from .errors import exit_on_error
from .processes import join_processes, leave_processes


def meet(*, device: Any, timeout: float) -> None:
    """Join the other processes of a training; see `join_processes`."""
    with exit_on_error():
        join_processes(device=device, timeout=timeout)


def part() -> None:
    """Leave the process group when everything is written."""
    leave_processes()
