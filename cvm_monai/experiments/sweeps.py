"""Dice against the values that an ablation varied, as a picture of the report."""

from collections.abc import Mapping, Sequence

import numpy as np

from cvm_monai.experiments.layout import Sweep
from cvm_monai.experiments.names import title
from cvm_monai.experiments.page import Picture
from cvm_monai.experiments.scores import Row, run_means
from cvm_monai.figures import Measured, SweepPanel, sweep_curves

CAPTION = (
    "Mean over runs (folds x seeds, {runs}) of the mean Dice of a run's test cases; bars, and the band of a level "
    "line: ± the sample standard deviation over runs, which holds how much folds differ, not how sure a difference is."
)


def sweep_picture(sweeps: Sequence[Sweep], rows: Mapping[str, Sequence[Row]]) -> Picture | None:
    """The plot of all panels that have a score; None where none has."""
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
    """One panel, without the arms that have no score."""
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
