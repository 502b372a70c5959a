"""A bundle's workflow opened without running it."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai
from monai.bundle import ConfigParser, ConfigWorkflow


def opened(
    config: Path, changes: Mapping[str, Any], *, trim: Callable[[ConfigParser], None] | None = None
) -> ConfigWorkflow:
    """The workflow of a configuration with some changes, its `initialize` done: knobs and data are checked.

    Args:
        config: the file.
        changes: value by id, as on the command line.
        trim: changes the parsed configuration before anything is made of it.

    Raises:
        SystemExit: with 2, after one sentence on stderr, where the bundle's own checks refuse something.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="monai.bundle")
        workflow = ConfigWorkflow(config_file=str(config), logging_file=False, **changes)
        if trim is not None:
            trim(workflow.parser)
        workflow.initialize()
    return workflow


@contextmanager
def tidy() -> Iterator[None]:
    """Undo what a bundle changes for its whole process: meta tensors switched off, seeds; MONAI's own log is silent."""
    tracked = monai.data.get_track_meta()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        monai.data.set_track_meta(tracked)
        monai.utils.set_determinism(None)
