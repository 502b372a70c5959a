"""Open a bundle's workflow without running it."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai
from monai.bundle import ConfigParser, ConfigWorkflow

from cvm_monai.bundle_files import as_entry

LONGEST = 300
"""Maximal number of characters of a quoted error."""


def opened(
    config: Path, changes: Mapping[str, Any], *, trim: Callable[[ConfigParser], None] | None = None
) -> ConfigWorkflow:
    """Open the workflow of a configuration with some changes and run its `initialize`, which checks knobs and data.

    Args:
        config: the file, in the `configs` folder of its bundle.
        changes: values by id, as on the command line.
        trim: changes the parsed configuration before anything is built from it.

    Raises:
        SystemExit: with 2, after one message on stderr, where the bundle's own checks refuse something.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Duplicate key", category=UserWarning)  # MONAI would use the last one
        root = as_entry(config.resolve().parents[1])
        workflow = ConfigWorkflow(config_file=str(config), logging_file=False, **{"bundle_root": root, **changes})
        if trim is not None:
            trim(workflow.parser)
        workflow.initialize()
    return workflow


def reason(error: BaseException) -> str:
    """Describe an error of a configuration in one line: MONAI's message with the place, then the first cause."""
    above = first = error
    while first.__cause__ is not None:
        above, first = first, first.__cause__  # MONAI wraps a failure once for each component that needed it
    words = _line(above)
    return words if first is error else f"{words.rstrip(': ')}: {_line(first)}"


def _line(error: BaseException) -> str:
    """Return an error's message, shortened, with its type where the message alone is unclear."""
    words = " ".join(str(error).split())
    bare = not words or isinstance(error, KeyError)
    return f"{type(error).__name__} {words[:LONGEST]}".strip() if bare else words[:LONGEST]


@contextmanager
def tidy() -> Iterator[None]:
    """Restore process-wide settings that a bundle changes (meta tensors, seeds), and silence MONAI."""
    tracked = monai.data.get_track_meta()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="monai")
            yield
    finally:
        logging.disable(before)
        monai.data.set_track_meta(tracked)
        monai.utils.set_determinism(None)
