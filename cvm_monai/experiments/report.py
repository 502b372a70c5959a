"""Write tables, figures and one page from finished runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvm_monai.data.datalist import DataList
from cvm_monai.errors import CvmError
from cvm_monai.experiments.claims import claims_csv, claims_table, make_claims
from cvm_monai.experiments.heatmaps import case_maps, choose_cases
from cvm_monai.experiments.knobs import WHERE, value_of
from cvm_monai.experiments.layout import TABLE_1, Layout, sweep_picture
from cvm_monai.experiments.page import Picture, make_page
from cvm_monai.experiments.plan import Run, ours_notes, title
from cvm_monai.experiments.result_tables import (
    ResultTable,
    cost_table,
    difference_table,
    failure_table,
    gap_table,
    pairwise_table,
    validation_table,
)
from cvm_monai.experiments.scores import Row, case_means, read_rows, write_rows
from cvm_monai.experiments.state import read_cost, read_validation
from cvm_monai.experiments.table import latex, make_table, markdown, table_csv
from cvm_monai.figures import method_boxes, method_maps
from cvm_monai.files import write_bytes, write_text

SCALE_OF_WORK = ("network", "network_channels", "scale", "mpp", "crop_size", "pairs", "max_epochs")
"""Knobs that determine the size of a comparison: the header always states them."""


@dataclass(frozen=True)
class Comparison:
    """Input of a report.

    Attributes:
        name: its heading.
        folds: number of folds of the data set.
        runs: all requested runs, finished or not.
        failures: the failed runs, and why.
        knobs: as requested, as text.
        config: the bundle's training configuration, for the defaults.
        commands: that train each run manually.
        jobs: parallel runs.
        layout: of the report.
        notes: further statements of the header about the data.
    """

    name: str
    data: DataList
    folds: int
    runs: tuple[Run, ...]
    failures: tuple[tuple[Run, str], ...]
    knobs: Mapping[str, str]
    config: Mapping[str, Any]
    commands: tuple[str, ...]
    jobs: int
    layout: Layout = TABLE_1
    notes: tuple[str, ...] = ()


def write_report(comparison: Comparison, output: Path) -> list[Path]:
    """Write the tables as `.md`, `.csv` (and `.tex`), `per_case.csv`, `statistics.md`, the figures and `report.html`.

    Raises:
        CvmError: no run has finished.
    """
    failed = {run.folder for run, _ in comparison.failures}
    finished = [run for run in comparison.runs if run.folder not in failed]
    if not finished:
        raise CvmError(f"none of the {len(comparison.runs)} runs has finished: there is nothing to report")
    rows = rows_by_arm(finished, comparison.runs)
    layout = comparison.layout
    table = make_table(rows, upper=layout.upper, facts=header(comparison, rows), heading=layout.heading)
    findings = _findings(comparison, finished, rows)
    claims = make_claims(rows, finished, upper=layout.upper)
    words = claims_table(claims)
    pictures = _pictures(comparison, finished, rows)
    texts = {
        f"{layout.stem}.md": markdown(table),
        f"{layout.stem}.csv": table_csv(table),
        f"{layout.stem}.tex": latex(table),
        "claims.md": _markdown([words]),
        "claims.csv": claims_csv(claims),
        "statistics.md": _markdown(findings),
        "report.html": make_page(comparison.name, table, pictures, [words, *findings], comparison.commands),
    }
    for name, text in texts.items():
        write_text(output / name, text)
    write_rows(output / "per_case.csv", [row for own in rows.values() for row in own])
    for picture in pictures:
        write_bytes(output / picture.file, picture.png)
    return [
        output / name for name in ("report.html", f"{layout.stem}.md", "claims.md", "statistics.md", "per_case.csv")
    ]


def rows_by_arm(finished: Sequence[Run], runs: Sequence[Run]) -> dict[str, list[Row]]:
    """Read the scores of every arm, in the order of the arms; an arm without a finished run has none."""
    rows: dict[str, list[Row]] = {run.arm: [] for run in runs}
    for run in sorted(finished, key=lambda run: (run.fold, run.seed)):
        rows[run.arm] += read_rows(run)
    return rows


def header(comparison: Comparison, rows: Mapping[str, Sequence[Row]]) -> list[str]:
    """Write the header: what was compared, on which data, with which settings."""
    cases = {(row.case_id, row.patient_id) for own in rows.values() for row in own}
    tested = sorted({run.fold for run in comparison.runs})
    seeds = len({run.seed for run in comparison.runs})
    folds = f"{len(tested)} of {comparison.folds}" if len(tested) < comparison.folds else f"all {comparison.folds}"
    return [
        f"{len(cases)} test cases of {len({patient for _, patient in cases})} patients, {folds} folds by patient "
        f"({', '.join(map(str, tested))}), {seeds} seed{'s' * (seeds != 1)}. Data: `{comparison.data.path}`.",
        "Mean ± sample standard deviation over folds; of each fold the mean over its test cases, seeds averaged. The "
        "best weak method is bold, without regard to chance: see the intervals of the differences.",
        _settings(comparison),
        *ours_notes(rows),
        *comparison.layout.notes,
        *comparison.notes,
        *_missing(comparison),
    ]


def _settings(comparison: Comparison) -> str:
    """Describe the working scale, and every knob that differs from the bundle's default."""
    config, asked = comparison.config, {name: value_of(text) for name, text in comparison.knobs.items()}
    common = [name for name in SCALE_OF_WORK if name not in comparison.layout.varied]
    stated = {name: asked.get(name, config.get(name)) for name in common}
    shown = ", ".join(f"{name} {value}" for name, value in stated.items() if value is not None)
    changed = [
        f"{name} {value}" + (f" (default {config[name]})" if not isinstance(config.get(name, {}), dict) else "")
        for name, value in asked.items()
        if name not in WHERE and config.get(name) != value
    ]
    text = f"Changed from the bundle's defaults: {', '.join(changed)}." if changed else "All at the bundle's defaults."
    return f"Every method with {shown}; same network, data order, augmentation, schedule and selection rule. {text}"


def _missing(comparison: Comparison) -> list[str]:
    failed = [run.name for run, _ in comparison.failures]
    return [f"INCOMPLETE: {len(failed)} of {len(comparison.runs)} runs failed ({'; '.join(failed)})."] if failed else []


def _findings(comparison: Comparison, finished: Sequence[Run], rows: Mapping[str, Sequence[Row]]) -> list[ResultTable]:
    failures, layout = failure_table(comparison.failures), comparison.layout
    contrasts = [pairwise_table(rows, pairs=layout.contrasts)] if layout.contrasts else []
    validated = validation_table([(run, read_validation(run)) for run in finished])
    gap = [gap_table(rows, lower=layout.lower, upper=layout.upper)] if layout.lower and layout.upper else []
    return [
        *([failures] if failures else []),
        difference_table(rows, reference=layout.reference),
        *contrasts,
        *gap,
        *([validated] if validated else []),
        cost_table([(run, read_cost(run)) for run in finished], jobs=comparison.jobs),
    ]


def _pictures(comparison: Comparison, finished: Sequence[Run], rows: Mapping[str, Sequence[Row]]) -> list[Picture]:
    upper = comparison.layout.upper
    ordered = [arm for arm in rows if arm != upper] + [arm for arm in rows if arm == upper]
    dice = {title(arm): [*case_means(rows[arm]).values()] for arm in ordered}
    if not any(dice.values()):
        return []
    swept = sweep_picture(comparison.layout.sweeps, rows)
    boxes = Picture(
        "Dice of every test case",
        method_boxes(dice, apart=title(upper) if upper else None),
        "One point a case, seeds averaged; box: middle half and median; whiskers: to the last case within 1.5 of its "
        "length; in brackets the number of cases.",
        "dice.png",
    )
    first = [*([swept] if swept else []), boxes]
    chosen = choose_cases(rows)
    if not chosen:
        return first
    titles = {arm: title(arm) for arm in ordered if rows[arm]}
    maps = Picture(
        "All methods side by side",
        method_maps(case_maps(chosen, finished, comparison.data), methods=titles),
        f"Probability of the target on {len(chosen)} test cases, from the run of their fold with the lowest seed. They "
        "are evenly spaced from the lowest Dice (mean of all methods) to the highest, not picked by eye.",
        "cases.png",
    )
    return [*first, maps]


def _markdown(findings: Sequence[ResultTable]) -> str:
    lines: list[str] = []
    for finding in findings:
        lines += [f"## {finding.heading}", ""]
        if finding.cells:
            lines += ["| " + " | ".join(line) + " |" for line in (finding.columns, *finding.cells)]
            lines.insert(len(lines) - len(finding.cells), "|---" * len(finding.columns) + "|")
            lines.append("")
        lines += [*(f"- {note}" for note in finding.notes), ""]
    return "\n".join(lines)
