"""Where a bundle run finds itself: its root, its parsed configuration, its folders."""

import functools
import re
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from cvm_monai.bundle_files import bundle_folder
from cvm_monai.engines.trained import TrainedKnobs

NULL = "null"
"""What stands for no value, as in the configurations."""
COMMAND = "monai/bundle/__main__.py"
"""How the first word of a `python -m monai.bundle` command ends."""
CONFIG_FILE = r"""^-+config[-_]file[=\n][\[(\s'"]*(.+?\.(?:json|ya?ml))(?=[\s'",)\]]|$)"""
"""Finds the first configuration file in the words of a command, one a line, whether one file is given or a list."""

_resolving: ContextVar[ConfigParser | None] = ContextVar("resolving", default=None)


def bundle_root() -> str:
    """Absolute path of the bundle: the parent of the `configs` folder that `python -m monai.bundle` was given.

    Where this process is no such command, it is the package's own bundle (`cvm_monai.bundle_files`), or without one the
    working directory; code that makes the workflow of another bundle itself gives it the entry `bundle_root`.
    """
    file = command_config(sys.argv)
    return str(bundle_folder() or Path.cwd()) if file is None else str(Path(file).resolve().parent.parent)


def command_config(words: Sequence[str]) -> str | None:
    """The first configuration file of a `python -m monai.bundle` command; None for any other command."""
    if not words or not words[0].endswith(COMMAND):
        return None
    found = re.search(CONFIG_FILE, "\n".join(words), re.MULTILINE)
    return None if found is None else found[1]


def follow_parser() -> None:
    """From the next entry of a configuration on, `active_parser` gives the parser that is resolving it.

    MONAI calls what a configuration names without its parser, and a configuration cannot refer to it. So
    `ConfigParser.get_parsed_content` is wrapped, once in a process; it does what it did. In `initialize` this stands
    right after the bundle's root is put on the path.
    """
    resolve = ConfigParser.get_parsed_content
    if getattr(resolve, "followed_by", None) is _resolving:
        return

    @functools.wraps(resolve)
    def followed(self: ConfigParser, id: str = "", **kwargs: Any) -> Any:
        token = _resolving.set(self)
        try:
            return resolve(self, id, **kwargs)
        finally:
            _resolving.reset(token)

    followed.followed_by = _resolving  # type: ignore[attr-defined]
    ConfigParser.get_parsed_content = followed  # type: ignore[method-assign]


def active_parser() -> ConfigParser | None:
    """The parser that is resolving an entry of a configuration, see `follow_parser`; None outside of a bundle run."""
    return _resolving.get()


def running_parser(asked_by: str) -> ConfigParser:
    """The same for what works inside of a bundle run alone.

    Raises:
        RuntimeError: outside of one, or in one whose configuration has not called `follow_parser`.
    """
    parser = active_parser()
    if parser is None:
        raise RuntimeError(
            f"{asked_by} is called from a bundle's configuration, by python -m monai.bundle run; its `initialize` "
            'needs {"_target_": "cvm_monai.engines.follow_parser"} after the entry that puts the bundle on the path'
        )
    return parser


def read_nulls() -> None:
    """Give the knobs typed as `null` no value: MONAI takes the word for a text, and drops Python's `None` unseen.

    Called before anything else of a configuration is resolved. Folders may have the name.
    """
    parser = active_parser()
    if parser is None:
        return
    config: Any = parser.config
    for name in [name for name, value in config.items() if value == NULL and not name.endswith("_dir")]:
        config[name] = None
        item = parser.ref_resolver.get_item(name)
        if item is not None:
            item.update_config(None)


def models_dir(*, bundle_root: str, output_dir: str) -> str:
    """Where `model.pt` lives: `models` of the bundle for its default output folder, else `models` of the output."""
    default = Path(bundle_root).resolve() / "eval"
    output = Path(output_dir).resolve()
    return str((default.parent if output == default else output) / "models")


def recorded(*, output_dir: str, key: str, default: Any) -> Any:
    """Value of a knob as the training in `output_dir` recorded it in `run.json`; `default` where there is none.

    Raises:
        CvmError: a file that is no record of a training, or a value that the knob cannot have.
    """
    return TrainedKnobs(output_dir, {key: default})[key]
