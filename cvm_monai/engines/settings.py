"""Collect a run's knobs and the settings that a training's result depends on; find the first difference of two."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from cvm_monai.engines.workflow import active_parser
from cvm_monai.files import sha256
from cvm_monai.knobs import TRAINING, names
from cvm_monai.networks.extractor_files import absolute_extractor
from cvm_monai.provenance import plain

SECTIONS = ("network_def", "optimizer", "load", "train#preprocessing", "val_interval")
"""Sections of the configuration that affect the weights, beside the knobs and the constants of the supervision."""
ABSENT = "nothing"


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


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Describe the first setting that differs, as `learning_rate was 0.001 and is 0.01`; None if all are equal.

    A setting without a value equals a missing one; a missing knob has its value of earlier trainings.
    """
    before = {name: TRAINING[name].earlier for name in now if name in TRAINING and name not in before} | dict(before)
    old, new = dict(_flat(before)), dict(_flat(now))
    for name in [*new, *(name for name in old if name not in new)]:
        if old.get(name) != new.get(name):
            return f"{name} was {old.get(name, ABSENT)} and is {new.get(name, ABSENT)}"
    return None


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each plain value with its id in the bundle's notation: `train#preprocessing#transforms#2#size`."""
    entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if entries is None:
        yield name, value
        return
    for key, entry in entries:
        yield from _flat(entry, f"{name}#{key}" if name else str(key))


FILES_OR_NAMES = ("encoder_weights", "extractor_path", "extractor_weights")
"""Knobs recorded with an absolute path if they name a file, with a revision if they name weights."""


def run_knobs(run: str = "training") -> dict[str, Any]:
    """Return {name: value} of all recorded knobs of the running configuration, in the order of `cvm_monai.knobs`.

    Args:
        run: the run id whose knobs they are.

    Raises:
        RuntimeError: outside of a bundle's run.
    """
    parser = active_parser()
    if parser is None:
        raise RuntimeError("run_knobs is called from a bundle's configuration, by python -m monai.bundle run")
    return {name: _value(parser, name) for name in names(run=run, recorded=True) if name in parser}


def _value(parser: ConfigParser, name: str) -> Any:
    value = parser.get_parsed_content(name)
    return absolute_extractor(value) if name in FILES_OR_NAMES else value
