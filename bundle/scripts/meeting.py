"""What a configuration for several processes runs first and last."""

from typing import Any

from .errors import exit_on_error
from .processes import join_processes, leave_processes


def meet(*, device: Any, timeout: float) -> None:
    """Meet the other processes of a training; see `join_processes`."""
    with exit_on_error():
        join_processes(device=device, timeout=timeout)


def part() -> None:
    """Leave them when everything is written."""
    leave_processes()
