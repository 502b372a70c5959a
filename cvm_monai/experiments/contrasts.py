"""Arms against each other two by two, such as two losses at the same number of points."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cvm_monai.experiments.findings import DIFFERENCE_COLUMNS, Finding, difference_cells, few_notes
from cvm_monai.experiments.names import title
from cvm_monai.experiments.scores import Row
from cvm_monai.experiments.statistics import Difference, differences
from cvm_monai.metrics import holm


def contrast_finding(rows: Mapping[str, Sequence[Row]], *, pairs: Sequence[tuple[str, str]]) -> Finding:
    """The first of each pair minus the second, in Dice; pairs that lack scores are named.

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
    return Finding(heading, ("Pair", *DIFFERENCE_COLUMNS), cells, tuple(notes))
