"""Format statistics, pairwise tests and costs as small text tables, for the page and the Markdown files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cvm_monai.experiments.plan import Run, title
from cvm_monai.experiments.scores import Row, over_folds
from cvm_monai.experiments.state import Cost
from cvm_monai.experiments.statistics import Difference, differences, gap_shares
from cvm_monai.metrics import Interval, holm

DIFFERENCE_COLUMNS = ("Difference", "95 % (cases)", "95 % (patients)", "Better on", "p", "p (Holm)")
FEWEST = 6
"""Number of cases below which Wilcoxon's test cannot be significant at 0.05."""


@dataclass(frozen=True)
class ResultTable:
    """A heading, a text table (no table if `cells` is empty), and sentences below it."""

    heading: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def difference_table(rows: Mapping[str, Sequence[Row]], *, reference: str) -> ResultTable:
    """Compare every method with the reference; a sentence if there is nothing to compare."""
    heading = f"Difference in Dice to {title(reference)}"
    present = [arm for arm, own in rows.items() if own]
    if reference not in present or len(present) < 2:
        missing = "another method" if reference in present else f"a finished run of `{reference}`"
        return ResultTable(heading, (), (), (f"Left out: it needs {missing}.",))
    found = differences({arm: rows[arm] for arm in present}, reference=reference)
    cells = tuple((title(entry.arm), *difference_cells(entry)) for entry in found)
    notes = [
        f"Method minus {title(reference)}: below 0, {title(reference)} is better. Pairs: test cases, seeds averaged.",
        "Intervals: 95 % bootstrap percentiles, once with cases drawn, once with patients and all their cases (safer "
        "where patients have several).",
        f"p: two-sided Wilcoxon signed-rank test over cases; Holm: corrected for {len(found)} comparisons.",
    ]
    notes += few_notes(found)
    left_out = [f"{title(entry.arm)} {entry.left_out}" for entry in found if entry.left_out]
    if left_out:
        notes.append(f"Cases that either method lacks a Dice for are left out: {', '.join(left_out)}.")
    return ResultTable(heading, ("Method", *DIFFERENCE_COLUMNS), cells, tuple(notes))


def difference_cells(entry: Difference) -> tuple[str, ...]:
    """Format a difference in the columns `DIFFERENCE_COLUMNS`."""
    return (
        f"{entry.by_case.mean:+.3f}",
        _interval(entry.by_case),
        "one patient" if entry.by_patient is None else _interval(entry.by_patient),
        f"{entry.better} of {entry.cases}",
        _p(entry.p),
        _p(entry.p_holm),
    )


def few_notes(found: Sequence[Difference]) -> list[str]:
    """Return a sentence if there are too few cases for any significance."""
    fewest = min((entry.cases for entry in found), default=0)
    if fewest >= FEWEST:
        return []
    return [f"With {fewest} pairs no p can be below {2 / 2**fewest:.2g}: too few to call anything significant."]


def gap_table(rows: Mapping[str, Sequence[Row]], *, lower: str, upper: str) -> ResultTable:
    """Tabulate the share of the gap that each method closes; a sentence if an end of the gap is missing."""
    heading = "Share of the gap closed"
    present = [arm for arm, own in rows.items() if own]
    missing = [arm for arm in (lower, upper) if arm not in present]
    if missing or len(present) < 3:
        needs = " and ".join(f"a finished run of `{arm}`" for arm in missing) or "a third method"
        return ResultTable(heading, (), (), (f"Left out: it needs {needs}.",))
    found = gap_shares({arm: rows[arm] for arm in present}, lower=lower, upper=upper)
    cells = tuple((title(entry.arm), *_share(entry.share), str(entry.cases), str(entry.patients)) for entry in found)
    notes = [
        f"(method - {title(lower)}) / ({title(upper)} - {title(lower)}) of the mean Dice, on the cases that all three "
        "have: 0 = points alone, 1 = dense masks. Interval: 95 % bootstrap, patients drawn with all their cases.",
    ]
    if any(entry.share is None for entry in found):
        notes.append(f"No share where {title(upper)} is not better than {title(lower)}, or where there is one patient.")
    if any(entry.share is not None and math.isnan(entry.share.low + entry.share.high) for entry in found):
        notes.append("An end that is not bounded: in too many resamples there is no gap to take a share of.")
    return ResultTable(heading, ("Method", "Share", "95 % (patients)", "Cases", "Patients"), cells, tuple(notes))


def cost_table(costs: Sequence[tuple[Run, Cost]], *, jobs: int) -> ResultTable:
    """Tabulate mean time of a run and peak memory over all runs, for each method."""
    arms = list(dict.fromkeys(run.arm for run, _ in costs))
    cells = []
    for arm in arms:
        own = [cost for run, cost in costs if run.arm == arm]
        training = np.mean([cost.training_seconds for cost in own])
        evaluating = np.mean([cost.evaluating_seconds for cost in own])
        peak = max(cost.peak_memory_mib for cost in own)
        cells.append((title(arm), str(len(own)), f"{training:.0f} s", f"{evaluating:.0f} s", f"{peak:.0f} MiB"))
    notes = (
        "Wall time of a process, its start included; main memory of the process that held most (a GPU's is not in it). "
        f"Times depend on what else ran: this command allows {jobs} run{'s' * (jobs != 1)} at once.",
    )
    columns = ("Method", "Runs", "Training (mean)", "Evaluation (mean)", "Peak memory")
    return ResultTable("Time and memory", columns, tuple(cells), notes if cells else ("No run has finished.",))


def validation_table(found: Sequence[tuple[Run, float]]) -> ResultTable | None:
    """Tabulate the validation partial cross-entropy of each method, the lowest first; None if no run recorded one."""
    means = []
    for arm in dict.fromkeys(run.arm for run, _ in found):
        folds = {run.fold for run, _ in found if run.arm == arm}
        values = {fold: [value for run, value in found if (run.arm, run.fold) == (arm, fold)] for fold in folds}
        means.append((arm, over_folds(values, left_out=sum(math.isnan(v) for own in values.values() for v in own))))
    ranked = sorted((entry for entry in means if entry[1].folds), key=lambda entry: entry[1].mean)
    if not ranked:
        return None
    cells = tuple((title(arm), f"{mean.mean:.3f}", str(mean.folds)) for arm, mean in ranked)
    notes = (
        "Partial cross-entropy on the points of the validation patients, of the weights that were tested; mean over "
        "folds, seeds averaged; lower is better. No method learns from these points: choose a method or a setting for "
        "your data by them, and leave the scores above to say how good the choice is.",
    )
    return ResultTable("Validation points", ("Method", "Partial cross-entropy", "Folds"), cells, notes)


def failure_table(failures: Sequence[tuple[Run, str]]) -> ResultTable | None:
    """List the runs that failed, with the last line of their log."""
    if not failures:
        return None
    cells = tuple((title(run.arm), str(run.fold), str(run.seed), text) for run, text in failures)
    note = "These runs are missing from every number here; the same command tries them again."
    return ResultTable("Runs that failed", ("Method", "Fold", "Seed", "Last line of the log"), cells, (note,))


def _interval(interval: Interval) -> str:
    ends = ["not bounded" if math.isnan(end) else f"{end:+.3f}" for end in (interval.low, interval.high)]
    return f"{ends[0]} to {ends[1]}"


def _share(share: Interval | None) -> tuple[str, str]:
    if share is None:
        return "no gap", ""
    low, high = ("not bounded" if math.isnan(end) else f"{end:.2f}" for end in (share.low, share.high))
    return f"{share.mean:.2f}", f"{low} to {high}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def pairwise_table(rows: Mapping[str, Sequence[Row]], *, pairs: Sequence[tuple[str, str]]) -> ResultTable:
    """Compare the first of each pair with the second, in Dice; pairs that lack scores are named.

    Args:
        rows: all scores of each arm.
        pairs: of arms; p is corrected by Holm for their number.
    """
    heading = "Difference in Dice, two by two"
    found: list[tuple[str, Difference]] = []
    missing = []
    for one, other in pairs:
        name = f"{title(one)} - {title(other)}"
        entries = differences({arm: rows.get(arm, ()) for arm in (one, other)}, reference=other)
        found += [(name, entry) for entry in entries]
        missing += [] if entries else [name]
    corrected = holm([entry.p for _, entry in found])
    final = [(name, replace(entry, p_holm=p)) for (name, entry), p in zip(found, corrected, strict=True)]
    cells = tuple((name, *difference_cells(entry)) for name, entry in final)
    notes = ["The first minus the second: above 0, the first is better. Intervals and p as above."] if cells else []
    notes += few_notes([entry for _, entry in final]) if cells else []
    if missing:
        notes.append(f"Left out, for want of two test cases that both have a Dice for: {'; '.join(missing)}.")
    return ResultTable(heading, ("Pair", *DIFFERENCE_COLUMNS), cells, tuple(notes))
