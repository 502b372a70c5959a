"""A bundle's workflow opened without running it."""

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
"""Characters of an error that a sentence repeats."""


def opened(
    config: Path, changes: Mapping[str, Any], *, trim: Callable[[ConfigParser], None] | None = None
) -> ConfigWorkflow:
    """The workflow of a configuration with some changes, its `initialize` done: knobs and data are checked.

    Args:
        config: the file, in the `configs` folder of its bundle.
        changes: value by id, as on the command line.
        trim: changes the parsed configuration before anything is made of it.

    Raises:
        SystemExit: with 2, after one sentence on stderr, where the bundle's own checks refuse something.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Duplicate key", category=UserWarning)  # MONAI would take the last one
        root = as_entry(config.resolve().parents[1])
        workflow = ConfigWorkflow(config_file=str(config), logging_file=False, **{"bundle_root": root, **changes})
        if trim is not None:
            trim(workflow.parser)
        workflow.initialize()
    return workflow


def reason(error: BaseException) -> str:
    """What an error of a configuration says, in one line with its first cause; MONAI's own words say where it is."""
    above = first = error
    while first.__cause__ is not None:
        above, first = first, first.__cause__  # MONAI wraps what fails once for each component that needed it
    words = _line(above)
    return words if first is error else f"{words.rstrip(': ')}: {_line(first)}"


def _line(error: BaseException) -> str:
    """Its words, cut where they are long, with its kind where they are bare."""
    words = " ".join(str(error).split())
    bare = not words or isinstance(error, KeyError)
    return f"{type(error).__name__} {words[:LONGEST]}".strip() if bare else words[:LONGEST]


@contextmanager
def tidy() -> Iterator[None]:
    """Undo what a bundle changes for its whole process, meta tensors switched off and seeds; MONAI itself is silent."""
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
