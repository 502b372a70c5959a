"""Table 1: five metrics of every method, as Markdown, CSV and LaTeX."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cvm_monai.experiments.plan import title
from cvm_monai.experiments.scores import FoldMean, Row, fold_mean
from cvm_monai.metrics import METRICS, MetricName
from cvm_monai.metrics.tables import TITLES

UPPER_BOUND = "upper bound, learnt from dense masks"


@dataclass(frozen=True)
class Table:
    """Contents of the table.

    Attributes:
        means: of each method, by metric; in the order of the rows.
        upper: the method shown separately as upper bound, or None.
        facts: statements of the header, one sentence each.
        heading: of the table.
    """

    means: Mapping[str, Mapping[MetricName, FoldMean]]
    upper: str | None
    facts: tuple[str, ...]
    heading: str = "Table 1"

    @property
    def weak(self) -> list[str]:
        """All rows except the upper bound."""
        return [arm for arm in self.means if arm != self.upper]

    def best(self, name: MetricName) -> str | None:
        """The weakly supervised method with the highest mean, the first of equals; None for one method or no mean."""
        defined = [arm for arm in self.weak if not math.isnan(self.means[arm][name].mean)]
        return max(defined, key=lambda arm: self.means[arm][name].mean) if len(self.weak) > 1 and defined else None


def make_table(
    rows: Mapping[str, Sequence[Row]], *, upper: str | None, facts: Sequence[str], heading: str = "Table 1"
) -> Table:
    """Compute the means of every method that has scores."""
    means = {arm: {name: fold_mean(own, name) for name in METRICS} for arm, own in rows.items() if own}
    return Table(means, upper if upper in means else None, tuple(facts), heading)


def markdown(table: Table) -> str:
    """Format header facts, table (best weak method in bold, upper bound last), and counts of undefined scores."""
    lines = [f"# {table.heading}", "", *(f"- {fact}" for fact in table.facts), ""]
    lines += ["| Method | " + " | ".join(TITLES[name] for name in METRICS) + " | Folds |", "|---" * 7 + "|"]
    for arm in table.weak:
        cells = [_bold(cell(table.means[arm][name]), arm == table.best(name)) for name in METRICS]
        lines.append(f"| {title(arm)} (`{arm}`) | " + " | ".join(cells) + f" | {folds(table, arm)} |")
    if table.upper:
        cells = [cell(table.means[table.upper][name]) for name in METRICS]
        name = f"*{title(table.upper)} (`{table.upper}`): {UPPER_BOUND}*"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {folds(table, table.upper)} |")
    notes = left_out_notes(table)
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]) + "\n"


def table_csv(table: Table) -> str:
    """Format one line per method: mean and standard deviation of each metric with six decimals, empty if undefined."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", "folds", *(f"{name}_{part}" for name in METRICS for part in ("mean", "sd", "left_out"))])
    for arm, means in table.means.items():
        values: list[str] = []
        for name in METRICS:
            entry = means[name]
            values += [*("" if math.isnan(x) else f"{x:.6f}" for x in (entry.mean, entry.sd)), str(entry.left_out)]
        writer.writerow([arm, folds(table, arm), *values])
    return stream.getvalue()


def latex(table: Table) -> str:
    """Format a `tabular` that needs no package, preceded by the facts as comments."""
    lines = [*(f"% {fact}" for fact in table.facts), r"\begin{tabular}{l" + "c" * len(METRICS) + "}", r"\hline"]
    lines += [" & ".join(["Method", *(TITLES[name] for name in METRICS)]) + r" \\", r"\hline"]
    for arm in table.weak:
        cells = [_latex_cell(table.means[arm][name], bold=arm == table.best(name)) for name in METRICS]
        lines.append(" & ".join([_latex_text(title(arm)), *cells]) + r" \\")
    if table.upper:
        cells = [_latex_cell(table.means[table.upper][name], bold=False) for name in METRICS]
        lines += [r"\hline", " & ".join([_latex_text(title(table.upper)), *cells]) + r" \\"]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def cell(entry: FoldMean) -> str:
    """Format as `0.712 ± 0.034`; without ± for a single fold."""
    if math.isnan(entry.mean):
        return "undefined"
    return f"{entry.mean:.3f}" + ("" if math.isnan(entry.sd) else f" ± {entry.sd:.3f}")


def folds(table: Table, arm: str) -> int:
    """Number of folds with scores of a method."""
    return max(entry.folds for entry in table.means[arm].values())


def left_out_notes(table: Table) -> list[str]:
    """Return a sentence for each method that has undefined scores."""
    notes = []
    for arm, means in table.means.items():
        counts = [f"{TITLES[name]} of {means[name].left_out}" for name in METRICS if means[name].left_out]
        if counts:
            notes.append(f"{title(arm)}: undefined and left out of the means are {', '.join(counts)} scored images.")
    return notes


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _latex_cell(entry: FoldMean, *, bold: bool) -> str:
    text = cell(entry).replace("±", r"$\pm$")
    return rf"\textbf{{{text}}}" if bold else text


def _latex_text(text: str) -> str:
    return "".join("\\" + letter if letter in "_&%$#{}" else letter for letter in text)
