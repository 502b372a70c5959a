"""What the knobs in a training's run.json may be: the file is a user's, and anything may stand there."""

from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files import shown
from cvm_monai.knobs import TRAINING


def check_recorded(file: Path, name: str, value: Any) -> Any:
    """The value of a knob as a training recorded it; a name that is no knob is passed over.

    Raises:
        CvmError: it is none that a training could have had, with the file and what it must be.
    """
    knob = TRAINING.get(name)
    if knob is None or value == knob.before or knob.fits(value):
        return value
    raise CvmError(f"{file}: {name} must be {knob.words}, found {shown(value)}: train again, or restore the file")
