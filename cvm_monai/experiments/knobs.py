"""Parse the knobs of a training from the command line, and build the configuration of a run."""

import ast
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from cvm_monai.bundle_files import config_file, read_config
from cvm_monai.errors import CvmError
from cvm_monai.files import shorten, shown
from cvm_monai.knobs import TRAINING, NetworkName, names

OWN: Mapping[str, str] = {
    "dataset_dir": "give the data set as DIR",
    "output_dir": "use --output",
    "supervision": "use --methods",
    "fold": "use --folds or --only",
    "seed": "use --seeds",
    "parent_run_id": "it names the comparison's own MLflow run",
}
"""Knobs that the comparison sets itself, and what to use instead."""

WHERE = frozenset(names(decisive=False))
"""Knobs that affect where and how a run is computed, but not its result: they may differ from a finished run's."""


def read_train_config(bundle: Path) -> dict[str, Any]:
    """Read the bundle's training configuration, `configs/train.yaml` or `train.json`.

    Raises:
        CvmError: no bundle in the folder.
    """
    path = config_file(bundle / "configs", "train")
    if not path.is_file():
        raise CvmError(f"{path} does not exist: name the folder of the MONAI bundle by --bundle")
    return read_config(path)


def parse_knobs(
    words: Sequence[str],
    config: Mapping[str, Any],
    *,
    own: Mapping[str, str] = OWN,
    setting: Path | None = None,
    varied: Sequence[str] = (),
) -> dict[str, str]:
    """Parse `--name value` and `--name=value` to {name: value}, values as text, and check them before any training.

    Args:
        own: knobs that the comparison sets itself, and what to use instead.
        setting: a configuration of knobs, such as the bundle's `paper.yaml`; `words` override it.
        varied: knobs of the setting that are left to the arms.

    Raises:
        CvmError: as `read_words` and `read_setting`; a value that is invalid for its knob; a network that is itself a
            method.
    """
    further = {} if setting is None else read_setting(setting, config, own=own, varied=varied)
    knobs = {**further, **read_words(words, config, own=own)}
    network = knobs.get("network", "unet")
    shared = [name for name in get_args(NetworkName) if name not in ("frozen_probe", "frozen_two_component")]
    if network not in shared:
        raise CvmError(f"--network must be one of {', '.join(shared)}, got {shown(network)}")
    for name, text in knobs.items():
        if name in TRAINING and not text.startswith("$"):
            TRAINING[name].check(value_of(text))
    return knobs


def read_setting(
    path: Path, config: Mapping[str, Any], *, own: Mapping[str, str] = OWN, varied: Sequence[str] = ()
) -> dict[str, str]:
    """Read the knobs of a configuration that overrides `train.yaml`, as if each were typed, without those `varied`.

    Raises:
        CvmError: a missing file, not a configuration, a value that is an object or an expression, or an error of
            `read_words`; the message names the file.
    """
    try:
        values = read_config(path)
    except ValueError as error:
        raise CvmError(f"--setting {error}; one is bundle/configs/paper.yaml") from None
    try:
        kept = {name: value for name, value in values.items() if name not in varied}
        return read_words(setting_words(kept), config, own=own)
    except ValueError as error:
        raise CvmError(f"{path}: {error}") from None


def configuration(
    config: Mapping[str, Any], knobs: Mapping[str, str], *, fold: int, seed: int, data_sha256: str
) -> dict[str, Any]:
    """Collect all settings that determine a run's result: the plain knobs of `config`, overridden by `knobs`.

    A default that is an expression keeps its text. Of the constants of methods only those of this method are included.
    """
    recorded = [name for name in names(recorded=True) if name in config]
    plain = {name: config[name] for name in recorded if not isinstance(config[name], dict)}
    chosen = {**plain, **{name: value_of(text) for name, text in knobs.items()}}
    constants = config.get("method_constants", {}).get(str(chosen.get("supervision")), {})
    chosen |= {"method_constants": constants, "fold": fold, "seed": seed, "data_sha256": data_sha256}
    return {name: value for name, value in chosen.items() if name not in WHERE}


def read_words(
    words: Sequence[str],
    config: Mapping[str, Any],
    *,
    own: Mapping[str, str],
    command: str = "comparison",
    options: Sequence[str] = (),
) -> dict[str, str]:
    """Parse command-line words to {name: value}, values as text, and check them before any training.

    Args:
        words: of the command line.
        config: defines the known knobs.
        own: knobs that the command sets itself, and what to use instead.
        command: one word, for error messages.
        options: of the command itself, which an error message may suggest.

    Raises:
        CvmError: a word that belongs to no knob, a knob without a value, one that is not in `config`, or one that the
            command sets itself.
    """
    knobs: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise CvmError(f"{shown(word)} does not belong to any option: give DIR first, then --name value")
        name, equals, value = word[2:].partition("=")
        if name in own:
            raise CvmError(f"the {command} sets --{name} itself: {own[name]}")
        _check_known(name, (*map(str, config), *options), command)
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise CvmError(f"--{shorten(name)} has no value: give --{shorten(name)} VALUE")
            value = rest.pop(0)
        knobs[name] = value
    return knobs


def setting_words(values: Mapping[str, Any]) -> list[str]:
    """Convert {name: value} to command-line words; `value_of` converts each value back.

    Raises:
        CvmError: a value that no word can express: an object, or an expression of the configuration.
    """
    for name, value in values.items():
        if isinstance(value, dict) or (isinstance(value, str) and value[:1] in ("$", "@", "%")):
            raise CvmError(f"{shorten(name)} must be a plain value, got {shorten(json.dumps(value))}")
    return [f"--{name}={_word(value)}" for name, value in values.items()]


def _word(value: Any) -> str:
    """Convert a value to its word; `null` for None, since MONAI drops a `None` and would keep the default."""
    if value is None:
        return "null"
    return str(value) if value_of(str(value)) == value else repr(value)


def value_of(text: str) -> Any:
    """Parse a knob's text as Python Fire does: a literal if it is one, else the text; `null` is None."""
    if text == "null":
        return None
    try:
        return json.loads(json.dumps(ast.literal_eval(text)))
    except (ValueError, SyntaxError, TypeError, MemoryError):
        return text


def _check_known(name: str, known: Sequence[str], command: str) -> None:
    first = name.partition("#")[0]
    if first in known:
        return
    near = get_close_matches(first, known, n=1)
    hint = f": did you mean --{near[0]}?" if near else ": bundle/docs/README.md lists them"
    raise CvmError(f"--{shorten(first)} is neither an option of the {command} nor a knob of the training{hint}")
