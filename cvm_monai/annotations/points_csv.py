"""Read a table of the points of many cases: case_id,x,y,label."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cvm_monai.annotations.assign import assign
from cvm_monai.annotations.labels import ClassMap, UnknownLabelsError, label_table
from cvm_monai.annotations.model import Annotations, Point
from cvm_monai.annotations.parsed_object import ParsedObject, check_position
from cvm_monai.errors import CvmError
from cvm_monai.files import read_number, read_table

COLUMNS = ("x", "y", "label")


def read_points_csv(path: str | Path, *, classes: ClassMap | None = None) -> dict[str, Annotations]:
    """Read a table with the columns case_id, x, y, label (level-0 pixels); further columns are ignored.

    Args:
        classes: class map, see ``label_table``.

    Returns:
        The annotations of each case id, in the order of the table.

    Raises:
        CvmError: a missing column, a bad number, an empty case id, with the line; or unknown labels, with their
            counts.
    """
    path = Path(path)
    table = label_table(classes)
    cases: dict[str, list[ParsedObject]] = {}
    for case_id, found in _rows(path, ("case_id", *COLUMNS)):
        cases.setdefault(case_id, []).append(found)
    annotations: dict[str, Annotations] = {}
    unknown: Counter[str | None] = Counter()
    first: UnknownLabelsError | None = None
    for case_id, rows in cases.items():
        counts: Counter[str] = Counter()
        try:
            points = [item for item in assign(rows, table=table, path=path, counts=counts) if isinstance(item, Point)]
        except UnknownLabelsError as error:
            first = first or error
            unknown.update(error.labels)
        else:
            annotations[case_id] = Annotations(tuple(points), (), dict(counts))
    if first is not None:
        raise first if unknown.total() == 1 else UnknownLabelsError(str(path), unknown, table)
    return annotations


def iter_single_case(path: Path) -> Iterator[ParsedObject]:
    """Yield the points of a table of a single case; the column case_id is optional.

    Raises:
        CvmError: the same as ``read_points_csv``, or several cases.
    """
    rows = list(_rows(path, COLUMNS))
    cases = {case_id for case_id, _ in rows}
    if len(cases) > 1:
        raise CvmError(f"{path} holds the points of {len(cases)} cases where those of one image are expected")
    yield from (found for _, found in rows)


def _rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[str, ParsedObject]]:
    """Yield the case id and the point of each row; without the column the case id is empty."""
    for line, row in read_table(path, required=required):
        where = f"{path}, line {line}"
        if row.get("case_id") == "":
            raise CvmError(f"{where}: the case_id is empty")
        x, y = (read_number(row[name], where=where, name=name) for name in ("x", "y"))
        yield row.get("case_id", ""), ParsedObject(row["label"] or None, where, points=[check_position(x, y, where)])
