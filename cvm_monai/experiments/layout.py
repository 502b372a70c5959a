"""What kind of report a study gets: what its table is called, which arms play a part, what is drawn against what."""

from collections.abc import Mapping
from dataclasses import dataclass

from cvm_monai.experiments.plan import LOWER, REFERENCE, UPPER


@dataclass(frozen=True)
class Sweep:
    """One panel of a plot: Dice against a value that was varied.

    Attributes:
        label: of the value.
        lines: {name of a line: {value: arm}}.
        default: the value of the bundle's configuration, which is marked; None: it is not among those of the panel.
        level: an arm that does not depend on the value, drawn as a level line; None: there is none.
        log: whether the values are spread over decades.
    """

    label: str
    lines: Mapping[str, Mapping[float, str]]
    default: float | None = None
    level: str | None = None
    log: bool = False


@dataclass(frozen=True)
class Layout:
    """How a report is made.

    Attributes:
        heading: of the table.
        stem: of the names of the table's files.
        reference: the arm that every other one is compared with.
        lower: the lower end of the gap of which arms close a share; None: no gap is looked at.
        upper: its upper end, which stands apart in table and figures.
        varied: knobs in which arms differ, so that the header states none of their values for all.
        contrasts: pairs of arms that are compared with each other as well.
        sweeps: panels of the plot; none: there is no plot.
        notes: what the arms' names mean, for the header.
    """

    heading: str
    stem: str
    reference: str
    lower: str | None = None
    upper: str | None = None
    varied: tuple[str, ...] = ()
    contrasts: tuple[tuple[str, str], ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    notes: tuple[str, ...] = ()


TABLE_1 = Layout("Table 1", "table1", REFERENCE, LOWER, UPPER)
