"""Where a bundle run finds itself: its root, its parsed configuration, its folders."""

import inspect
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from cvm_monai.engines.trained import TrainedKnobs
from cvm_monai.place import bundle_folder

NULL = "null"
"""What stands for no value, as in the configurations."""


def bundle_root() -> str:
    """Absolute path of the bundle whose configuration is being parsed: the parent of its `configs` folder.

    It is taken from the running workflow, so that the working directory does not matter; a bare parser has none, then
    the package's own bundle (`cvm_monai.place`), or the working directory, is taken.
    """
    workflow = _active_workflow()
    folder = getattr(workflow, "config_root_path", None) if workflow is not None else None
    if folder is not None:
        return str(Path(folder).resolve().parent)
    return str(bundle_folder() or Path.cwd())


def active_parser() -> ConfigParser | None:
    """The parser of the bundle workflow that is running, or None outside of one."""
    workflow = _active_workflow()
    return None if workflow is None else workflow.parser


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
        ValueError: a file that is no record of a training, or a value that the knob cannot have.
    """
    return TrainedKnobs(output_dir, {key: default})[key]


def _active_workflow() -> ConfigWorkflow | None:
    """The nearest bundle workflow among the callers."""
    frame = inspect.currentframe()
    while frame is not None:
        candidate = frame.f_locals.get("self")
        if isinstance(candidate, ConfigWorkflow):
            return candidate
        frame = frame.f_back
    return None
