"""Types of knob values and their checks: a choice, a number in a range, a switch, a path. Imports nothing heavy."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from cvm_monai.errors import CvmError

Role = Literal["science", "place", "machine"]
"""What a knob affects: the result; where files are; how and how fast this machine computes."""

LARGEST = 1e9
"""Upper limit of every size, weight and rate."""
LONGEST_PATH = 4096
"""Largest number of characters of a path on Linux."""
SHOWN = 60
"""Largest number of characters of a value that a message quotes."""
COUNTS = {3: "three", 5: "five"}


class Kind(Protocol):
    """A type of value with its range."""

    @property
    def words(self) -> str:
        """What the value must be, for messages."""

    def fits(self, value: Any) -> bool:
        """Whether the value is of this type and in its range."""


@dataclass(frozen=True)
class Choice:
    """One of the words of a `Literal`."""

    of: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"one of {', '.join(self.of)}"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.of


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high` that is a multiple of `multiple` (for sizes in pixels)."""

    low: int = 0
    high: int = 2**31
    multiple: int = 1

    @property
    def words(self) -> str:
        if self.multiple > 1:
            size = f"of at least {self.low}" if self.high == 2**31 else f"from {self.low} to {self.high}"
            return f"a multiple of {self.multiple} {size} pixels"
        most = f"from {self.low} to {self.high}" if self.high < 2**31 else f"of at least {self.low}"
        return f"a whole number {most}"

    def fits(self, value: Any) -> bool:
        return type(value) is int and self.low <= value <= self.high and value % self.multiple == 0


@dataclass(frozen=True)
class Number:
    """A finite number in a range; `above` and `below` are exclusive bounds."""

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    unit: str = ""

    @property
    def words(self) -> str:
        name = f"a number{self.unit and ' of '}{self.unit}"
        if self.high < math.inf or self.below < math.inf:
            end = f"{self.high:g}]" if self.high < math.inf else f"{self.below:g})"
            return f"{name} in [{self.low:g}, {end}"
        if self.above > -math.inf:
            return f"{name} greater than {self.above:g}"
        return f"{name} of at least {self.low:g}" if self.low > -math.inf else name

    def fits(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
            return False
        return self.low <= value <= self.high and self.above < value < self.below


@dataclass(frozen=True)
class Several:
    """A fixed number of values of one type."""

    count: int
    of: Whole | Number

    @property
    def words(self) -> str:
        return f"{COUNTS[self.count]} {self.of.words.removeprefix('a ').replace('number', 'numbers', 1)}"

    def fits(self, value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == self.count and all(map(self.of.fits, value))


@dataclass(frozen=True)
class AnyNumber:
    """A list of any number of values of one type, or a single value."""

    of: "Number | Text"
    words: str

    def fits(self, value: Any) -> bool:
        return all(map(self.of.fits, value)) if isinstance(value, list | tuple) else self.of.fits(value)


@dataclass(frozen=True)
class Switch:
    """True or False; a text such as 'true' is refused."""

    words: str = "True or False"

    def fits(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Text:
    """A path, an address or a name.

    Attributes:
        words: see `Kind`.
        path: it is a single path, which MONAI must not parse as an expression.
        bare: a number is accepted, since the command line parses a name of digits as a number.
    """

    words: str = "a path"
    path: bool = True
    bare: bool = False

    def fits(self, value: Any) -> bool:
        if self.bare and type(value) in (int, float):
            return True
        return isinstance(value, str | Path) and "\0" not in str(value) and len(str(value)) <= LONGEST_PATH


@dataclass(frozen=True)
class Device:
    """A device by its torch name, or a `torch.device`; whether the device exists is not checked."""

    words: str = "cpu, cuda or cuda:N"

    def fits(self, value: Any) -> bool:
        return re.fullmatch(r"[a-z]+(:\d+)?", str(value)) is not None


@dataclass(frozen=True)
class Computed:
    """A default that the configuration computes; `words` describe it in the documents."""

    words: str


class _Same:
    """Type of the marker for "the same as the default"."""


SAME = _Same()


@dataclass(frozen=True)
class Knob:
    """A setting of a run, a top-level entry of its configuration.

    Attributes:
        name: its name in the configuration, on the command line and in `run.json`.
        kind: type and range of its values.
        default: as in the configuration; `Computed` where an expression computes it.
        help: the effect of raising or choosing it, one line of the table in the documents.
        role: see `Role`.
        null: whether it may be None.
        recorded: whether it is written to `run.json` and MLflow.
        before: its value in trainings that did not record it.
        decides: whether its value changes the result, so that a training cannot be resumed with another value, nor runs
            with different values be compared; None: if its role is `science`.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    role: Role = "science"
    null: bool = False
    recorded: bool = True
    before: Any = SAME
    decides: bool | None = None

    @property
    def words(self) -> str:
        """What its value must be, for messages."""
        return f"null or {self.kind.words}" if self.null else self.kind.words

    @property
    def is_decisive(self) -> bool:
        """Whether the result depends on it; see `decides`."""
        return self.role == "science" if self.decides is None else self.decides

    @property
    def earlier(self) -> Any:
        """Its value in trainings that did not record it; None where it is computed."""
        value = self.default if self.before is SAME else self.before
        return None if isinstance(value, Computed) else value

    def fits(self, value: Any) -> bool:
        """Whether it may have this value."""
        return self.null if value is None else self.kind.fits(value)

    def check(self, value: Any) -> None:
        """Refuse a value of another type or out of its range.

        Raises:
            CvmError: stating what it must be, with its name as an option.
        """
        if not self.fits(value):
            raise CvmError(f"--{self.name} must be {self._words_for(value)}, got {quoted(value)}")

    def read(self, value: Any) -> Any:
        """Convert a value sent by a client to the knob's type; accepts numbers as text, and `3.0` for a whole number.

        Raises:
            CvmError: stating what it must be.
        """
        found = value if isinstance(self.kind, Choice) else _number(value, whole=isinstance(self.kind, Whole))
        if not self.kind.fits(found):
            raise CvmError(f"{self.name} must be {self._words_for(found)}, got {quoted(value)}")
        return found

    def _words_for(self, value: Any) -> str:
        """What its value must be, with the limit of all numbers where this value is beyond it."""
        unbounded = isinstance(self.kind, Number) and min(self.kind.high, self.kind.below) == math.inf
        too_large = unbounded and type(value) in (int, float) and value >= LARGEST
        return f"{self.words} and less than {LARGEST:g}" if too_large else self.words


def _number(value: Any, *, whole: bool) -> float | None:
    """Parse a number; None where the value is not a number."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if whole and math.isfinite(number) and number == int(number) else number


def by_name(*knobs: Knob) -> dict[str, Knob]:
    """Map the names of the knobs to the knobs, in their order.

    Raises:
        CvmError: a duplicate name.
    """
    table = {knob.name: knob for knob in knobs}
    if len(table) < len(knobs):
        raise CvmError("a knob is declared twice")
    return table


def check_all(values: Mapping[str, Any], table: Mapping[str, Knob]) -> None:
    """Check each value by its knob in the table; names without a knob are ignored.

    Raises:
        CvmError: as `Knob.check`.
    """
    for name, knob in table.items():
        if name in values:
            knob.check(values[name])


def quoted(value: object) -> str:
    """Format a value for a message, shortened where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
