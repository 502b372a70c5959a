"""The knobs that a network was trained with, as its `run.json` keeps them, each checked when it is asked for."""

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
    """Each knob of a training in an output folder; what it did not record is as trainings were before they knew it.

    A value is checked when it is asked for, so that a broken one harms only what needs it.

    Args:
        output_dir: of the training; without a `run.json` there, all is as not recorded.
        defaults: of a network that comes without its record, as in an exported bundle: they go before `Knob.before`.

    Raises:
        CvmError: a file that is no record of a training; and, when it is asked for, a value that no training could
            have had.
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
    """The value of a knob as a training recorded it; a name that is no knob is passed over.

    Raises:
        CvmError: it is none that a training could have had, with the file and what it must be.
    """
    knob = TRAINING.get(name)
    if knob is None or value == knob.before or knob.fits(value):
        return value
    raise CvmError(f"{file}: {name} must be {knob.words}, found {shown(value)}: train again, or restore the file")
