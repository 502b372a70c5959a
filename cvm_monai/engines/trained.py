"""The knobs that a network was trained with, read from its `run.json` and checked on access."""

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files import shown
from cvm_monai.knobs import TRAINING
from cvm_monai.provenance import RUN_FILE


class TrainedKnobs(Mapping[str, Any]):
    """Mapping of a training's recorded knobs; an unrecorded one has the value that was fixed before it existed.

    A value is checked on access, so that an invalid one affects only its users.

    Args:
        output_dir: of the training; without a `run.json` there, no knob counts as recorded.
        defaults: for a network without its record, as in an exported bundle; they take precedence over `Knob.before`.

    Raises:
        CvmError: the file is not the record of a training; or, on access, a value that is invalid for the knob.
    """

    def __init__(self, output_dir: str | PathLike[str], defaults: Mapping[str, Any] | None = None) -> None:
        self._file = Path(output_dir) / RUN_FILE
        self._recorded: Mapping[str, Any] = _read(self._file)
        self._defaults = {name: knob.earlier for name, knob in TRAINING.items() if knob.recorded} | dict(defaults or {})

    def __getitem__(self, name: str) -> Any:
        if name in self._recorded:
            return check_recorded(self._file, name, self._recorded[name])
        return self._defaults[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._defaults, **self._recorded})

    def __len__(self) -> int:
        return len({**self._defaults, **self._recorded})


def _read(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["knobs"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CvmError(f"{file} is not a record of a training ({error}): train again, or remove it") from error


def check_recorded(file: Path, name: str, value: Any) -> Any:
    """Check a knob's value in a training's record and return it; an unknown name is not checked.

    Raises:
        CvmError: the value is invalid; the message names the file and the valid values.
    """
    knob = TRAINING.get(name)
    if knob is None or value == knob.before or knob.fits(value):
        return value
    raise CvmError(f"{file}: {name} must be {knob.words}, found {shown(value)}: train again, or restore the file")
