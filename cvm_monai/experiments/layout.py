"""Layout of a study's report: its table, the arms with special roles, and plots of Dice against a varied value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvm_monai.experiments.page import Picture
from cvm_monai.experiments.plan import LOWER, REFERENCE, UPPER, title
from cvm_monai.experiments.scores import Row, run_means
from cvm_monai.figures import Measured, SweepPanel, sweep_curves


@dataclass(frozen=True)
class Sweep:
    """One panel of a plot: Dice against a varied value.

    Attributes:
        label: of the value.
        lines: {name of a line: {value: arm}}.
        default: the value of the bundle's configuration, which is marked; None: it is not among the panel's values.
        level: an arm that does not depend on the value, drawn as a level line; None: there is none.
        log: logarithmic axis.
    """

    label: str
    lines: Mapping[str, Mapping[float, str]]
    default: float | None = None
    level: str | None = None
    log: bool = False


@dataclass(frozen=True)
class Layout:
    """Roles of the arms and parts of a report.

    Attributes:
        heading: of the table.
        stem: stem of the table's file names.
        reference: the arm that every other one is compared with.
        lower: the lower end of the gap, of which each arm closes a share; None: no gap is computed.
        upper: its upper end, which is shown separately in table and figures.
        varied: knobs in which arms differ; the header does not state their values.
        contrasts: further pairs of arms that are compared with each other.
        sweeps: panels of the plot; empty: no plot.
        notes: meaning of the arms' names, for the header.
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


CAPTION = (
    "Mean over runs (folds x seeds, {runs}) of the mean Dice of a run's test cases; bars, and the band of a level "
    "line: ± the sample standard deviation over runs, which holds how much folds differ, not how sure a difference is."
)


def sweep_picture(sweeps: Sequence[Sweep], rows: Mapping[str, Sequence[Row]]) -> Picture | None:
    """Plot all panels that have a score; None if there is none."""
    means = {arm: run_means(own) for arm, own in rows.items()}
    panels = [panel for panel in (_panel(sweep, means) for sweep in sweeps) if panel.lines]
    if not panels:
        return None
    drawn = {arm for sweep in sweeps for line in sweep.lines.values() for arm in line.values() if means.get(arm)}
    counts = sorted({len(means[arm]) for arm in drawn})
    runs = f"{counts[0]} each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} each"
    caption = CAPTION.format(runs=runs)
    if any(panel.default is not None for panel in panels):
        caption += " Dotted: the bundle's default."
    return Picture("Dice against the varied value", sweep_curves(panels), caption, "ablation.png")


def _panel(sweep: Sweep, means: Mapping[str, Sequence[float]]) -> SweepPanel:
    """Build one panel, without the arms that have no score."""
    lines = {
        name: {value: _measured(means[arm]) for value, arm in line.items() if means.get(arm)}
        for name, line in sweep.lines.items()
    }
    level = None
    if sweep.level and means.get(sweep.level):
        level = (title(sweep.level), _measured(means[sweep.level]))
    shown = {name: line for name, line in lines.items() if line}
    return SweepPanel(sweep.label, shown, default=sweep.default, level=level, log=sweep.log)


def _measured(values: Sequence[float]) -> Measured:
    return Measured(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)
