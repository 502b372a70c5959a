"""What a knob may hold: one of some words, a number in a range, a switch, a path. Imports nothing heavy."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from cvm_monai.errors import CvmError

Role = Literal["science", "place", "machine"]
"""What a knob decides: what is learnt or computed; where files lie; how and how fast this machine computes it."""

LARGEST = 1e9
"""No size, weight or rate reaches it."""
LONGEST_PATH = 4096
"""Characters that a path may have on Linux."""
SHOWN = 60
"""Characters of a value that a sentence quotes."""
COUNTS = {3: "three", 5: "five"}


class Kind(Protocol):
    """A type of value with its range."""

    @property
    def words(self) -> str:
        """How a sentence says what the value must be."""

    def fits(self, value: Any) -> bool:
        """Whether the value is of this kind and in its range."""


@dataclass(frozen=True)
class Choice:
    """One of some words, those of a `Literal`."""

    of: tuple[str, ...]

    @property
    def words(self) -> str:
        return f"one of {', '.join(self.of)}"

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.of


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` to `high`, of pixels where it must be a multiple of some."""

    low: int = 0
    high: int = 2**31
    multiple: int = 1

    @property
    def words(self) -> str:
        if self.multiple > 1:
            return f"a multiple of {self.multiple} of at least {self.low} pixels"
        most = f"from {self.low} to {self.high}" if self.high < 2**31 else f"of at least {self.low}"
        return f"a whole number {most}"

    def fits(self, value: Any) -> bool:
        return type(value) is int and self.low <= value <= self.high and value % self.multiple == 0


@dataclass(frozen=True)
class Number:
    """A finite number in a range; `above` and `below` are bounds that it must not reach."""

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
    """So many values of a kind."""

    count: int
    of: Whole | Number

    @property
    def words(self) -> str:
        return f"{COUNTS[self.count]} {self.of.words.removeprefix('a ').replace('number', 'numbers', 1)}"

    def fits(self, value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == self.count and all(map(self.of.fits, value))


@dataclass(frozen=True)
class AnyNumber:
    """Any number of values of a kind, or one of them."""

    of: "Number | Text"
    words: str

    def fits(self, value: Any) -> bool:
        return all(map(self.of.fits, value)) if isinstance(value, list | tuple) else self.of.fits(value)


@dataclass(frozen=True)
class Switch:
    """True or False, and no word for it such as the text 'true'."""

    words: str = "True or False"

    def fits(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Text:
    """A path, an address or a name.

    Attributes:
        words: see `Kind`.
        path: it is one path and nothing else, which MONAI must take as it is written.
        bare: a number may stand for it, as the command line reads one.
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
    """What torch calls a device, or one of torch's own objects; whether it is here is torch's to say."""

    words: str = "cpu, cuda or cuda:N"

    def fits(self, value: Any) -> bool:
        return re.fullmatch(r"[a-z]+(:\d+)?", str(value)) is not None


@dataclass(frozen=True)
class Computed:
    """A default that the configuration computes: how documents say it."""

    words: str


class _Same:
    """Stands for the default itself."""


SAME = _Same()


@dataclass(frozen=True)
class Knob:
    """A setting of a run that stands at the top of its configuration.

    Attributes:
        name: in the configuration, on the command line and in the record.
        kind: what it may hold.
        default: as in the configuration; `Computed` where an expression gives it.
        help: what raising or choosing it does, in one line of the documents' table.
        role: see `Role`.
        null: it may have no value.
        recorded: `run.json` and MLflow keep it.
        before: its value in trainings that did not record it.
        decides: another value gives another result, so that a training cannot go on with it, nor two runs be compared;
            None: where its role is `science`.
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
        """What it must be."""
        return f"null or {self.kind.words}" if self.null else self.kind.words

    @property
    def is_decisive(self) -> bool:
        """Whether the result depends on it; see `decides`."""
        return self.role == "science" if self.decides is None else self.decides

    @property
    def earlier(self) -> Any:
        """The value of trainings that did not record it; None where only a computation says it."""
        value = self.default if self.before is SAME else self.before
        return None if isinstance(value, Computed) else value

    def fits(self, value: Any) -> bool:
        """Whether it may have this value."""
        return self.null if value is None else self.kind.fits(value)

    def check(self, value: Any) -> None:
        """Refuse a value of another kind or out of its range.

        Raises:
            CvmError: what it must be, naming it as an option.
        """
        if not self.fits(value):
            raise CvmError(f"--{self.name} must be {self.words}, got {quoted(value)}")

    def read(self, value: Any) -> Any:
        """A number or a word as a client sends it, a text or `3.0` for a whole number too.

        Raises:
            CvmError: what it must be.
        """
        found = value if isinstance(self.kind, Choice) else _number(value, whole=isinstance(self.kind, Whole))
        if not self.kind.fits(found):
            raise CvmError(f"{self.name} must be {self.words}, got {quoted(value)}")
        return found


def _number(value: Any, *, whole: bool) -> float | None:
    """The number that a value says; None where it says none."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if whole and math.isfinite(number) and number == int(number) else number


def by_name(*knobs: Knob) -> dict[str, Knob]:
    """The knobs under their names, in their order.

    Raises:
        CvmError: a name that comes twice.
    """
    table = {knob.name: knob for knob in knobs}
    if len(table) < len(knobs):
        raise CvmError("a knob is declared twice")
    return table


def check_all(values: Mapping[str, Any], table: Mapping[str, Knob]) -> None:
    """Refuse the first value that its knob in the table cannot have; other names are passed over.

    Raises:
        CvmError: as `Knob.check`.
    """
    for name, knob in table.items():
        if name in values:
            knob.check(values[name])


def quoted(value: object) -> str:
    """A value as a sentence quotes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
