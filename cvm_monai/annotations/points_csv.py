"""Points of many cases in one table: case_id,x,y,label."""

from collections.abc import Mapping
from pathlib import Path

from cvm_monai.annotations.files import read_number, read_table
from cvm_monai.annotations.labels import SKIP, find_label, label_table
from cvm_monai.annotations.model import UNLABELLED, Annotations, Point


def read_points_csv(path: str | Path, *, classes: Mapping[str, str | int] | None = None) -> dict[str, Annotations]:
    """Read a table with the columns case_id, x, y, label (level-0 pixels); further columns are passed over.

    Args:
        classes: class map, see ``label_table``.

    Returns:
        The annotations of each case id, in the order of the table.

    Raises:
        ValueError: a missing column, a bad number, an empty case id or an unknown label, with the line.
    """
    path = Path(path)
    table = label_table(classes)
    points: dict[str, list[Point]] = {}
    counts: dict[str, dict[str, int]] = {}
    for line, row in read_table(path, required=("case_id", "x", "y", "label")):
        where = f"{path}, line {line}"
        case_id = row["case_id"]
        if not case_id:
            raise ValueError(f"{where}: the case_id is empty")
        x, y = (read_number(row[name], where=where, name=name) for name in ("x", "y"))
        label = find_label(row["label"], table, where=where)
        kept, left_out = points.setdefault(case_id, []), counts.setdefault(case_id, {})
        if label in (SKIP, UNLABELLED):
            kind = "skip" if label == SKIP else "exclusion point"
            left_out[kind] = left_out.get(kind, 0) + 1
        else:
            kept.append(Point(x, y, label))
    return {case_id: Annotations(tuple(kept), (), counts[case_id]) for case_id, kept in points.items()}


def read_single_case(path: Path, *, classes: Mapping[str, str | int] | None = None) -> Annotations:
    """The annotations of a table that speaks of one case only.

    Raises:
        ValueError: the same as ``read_points_csv``, or several cases.
    """
    cases = read_points_csv(path, classes=classes)
    if len(cases) > 1:
        raise ValueError(f"{path} holds the points of {len(cases)} cases where those of one image are expected")
    return next(iter(cases.values()), Annotations())
