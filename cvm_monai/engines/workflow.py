"""A bundle run: its root, parsed configuration, folders, knobs, and the settings that its result depends on."""

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from cvm_monai.bundle_files import bundle_folder
from cvm_monai.files import sha256
from cvm_monai.knobs import names
from cvm_monai.networks.extractor_files import absolute_extractor
from cvm_monai.runs.folder import TrainedKnobs, plain

NULL = "null"
"""Text for a missing value in the configurations."""
COMMAND = "monai/bundle/__main__.py"
"""Ending of the first word of a `python -m monai.bundle` command."""
CONFIG_FILE = r"""^-+config[-_]file[=\n][\[(\s'"]*(.+?\.(?:json|ya?ml))(?=[\s'",)\]]|$)"""
"""Matches the first configuration file in a command's words, one per line, given one file or a list."""

SECTIONS = ("network_def", "optimizer", "load", "train#preprocessing", "val_interval")
"""Sections of the configuration that affect the weights, beside the knobs and the constants of the supervision."""
FILES_OR_NAMES = ("encoder_weights", "extractor_path", "extractor_weights")
"""Knobs recorded with an absolute path if they name a file, with a revision if they name weights."""

_resolving: ContextVar[ConfigParser | None] = ContextVar("resolving", default=None)


def bundle_root() -> str:
    """Absolute path of the bundle: the parent of the `configs` folder that `python -m monai.bundle` was given.

    In any other process it is the package's own bundle (`cvm_monai.bundle_files`), or without one the working folder;
    code that creates another bundle's workflow itself sets the configuration's entry `bundle_root`.
    """
    file = command_config(sys.argv)
    return str(bundle_folder() or Path.cwd()) if file is None else str(Path(file).resolve().parent.parent)


def command_config(words: Sequence[str]) -> str | None:
    """Find the first configuration file of a `python -m monai.bundle` command; None for any other command."""
    if not words or not words[0].endswith(COMMAND):
        return None
    found = re.search(CONFIG_FILE, "\n".join(words), re.MULTILINE)
    return None if found is None else found[1]


def follow_parser() -> None:
    """Make `active_parser` return the parser that resolves an entry, from the next entry of a configuration on.

    MONAI calls the configuration's functions without its parser, and a configuration cannot refer to its parser. So
    `ConfigParser.get_parsed_content` is wrapped, once per process; its behaviour is unchanged. In `initialize` this
    follows right after the bundle's root is added to the path.
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
    """Return the parser that is resolving an entry, see `follow_parser`; None outside of a bundle run."""
    return _resolving.get()


def running_parser(asked_by: str) -> ConfigParser:
    """Return the active parser, for functions that work only in a bundle run.

    Raises:
        RuntimeError: outside of a bundle run, or if its configuration has not called `follow_parser`.
    """
    parser = active_parser()
    if parser is None:
        raise RuntimeError(
            f"{asked_by} is called from a bundle's configuration, by python -m monai.bundle run; its `initialize` "
            'needs {"_target_": "cvm_monai.engines.follow_parser"} after the entry that puts the bundle on the path'
        )
    return parser


def read_nulls() -> None:
    """Set the knobs given as the text `null` to None: MONAI reads a text, and silently drops Python's `None`.

    Must be called before anything else of a configuration is resolved. Folders may be named `null`.
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
    """Folder of `model.pt`: `models` of the bundle for its default output folder, else `models` of the output."""
    default = Path(bundle_root).resolve() / "eval"
    output = Path(output_dir).resolve()
    return str((default.parent if output == default else output) / "models")


def recorded(*, output_dir: str, key: str, default: Any) -> Any:
    """Return a knob's value from the `run.json` of the training in `output_dir`; `default` if it has none.

    Raises:
        CvmError: the file is not the record of a training, or the value is invalid for the knob.
    """
    return TrainedKnobs(output_dir, {key: default})[key]


def run_knobs(run: str = "training") -> dict[str, Any]:
    """Return {name: value} of all recorded knobs of the running configuration, in the order of `cvm_monai.knobs`.

    Args:
        run: the run id whose knobs they are.

    Raises:
        RuntimeError: outside of a bundle's run.
    """
    parser = running_parser("run_knobs")
    return {name: _value(parser, name) for name in names(run=run, recorded=True) if name in parser}


def _value(parser: ConfigParser, name: str) -> Any:
    value = parser.get_parsed_content(name)
    return absolute_extractor(value) if name in FILES_OR_NAMES else value


def training_settings(*, knobs: Mapping[str, Any], datalist: str | Path) -> dict[str, Any]:
    """Collect the decisive knobs, the data list's hash, and the unresolved sections of the running configuration.

    Two trainings with equal settings, in one version of this package on one machine, give the same weights.
    """
    where = names(decisive=False)  # a training may be resumed elsewhere
    settings = {name: plain(value) for name, value in knobs.items() if name not in where}
    settings["data_sha256"] = sha256(Path(datalist))
    parser = active_parser()
    if parser is not None:
        constants = f"method_constants#{knobs.get('supervision')}"
        settings |= {section: plain(parser.get(section)) for section in (*SECTIONS, constants)}
    return settings
