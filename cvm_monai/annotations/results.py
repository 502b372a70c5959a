"""Write predicted regions: GeoJSON for QuPath and the Digital Slide Archive, and a table of the classes.

A feature has the properties of both programs. QuPath reads ``objectType``, ``classification``, ``name``,
``isLocked`` and ``measurements``; the Digital Slide Archive (large_image) keeps ``label``, ``group``, ``lineColor``,
``fillColor`` and ``lineWidth`` and drops the others.
"""

import csv
import gzip
import io
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

from cvm_monai.annotations.geojson import COLOURS, class_titles, label_colours
from cvm_monai.annotations.model import Ring
from cvm_monai.annotations.polygons import DECIMALS, RegionResult
from cvm_monai.errors import CvmError
from cvm_monai.files import replacing, write_text

ObjectType = Literal["annotation", "detection"]
"""QuPath's object type of a region: annotations can be edited; detections cannot and are drawn faster."""

AREA, PROBABILITY = "Predicted area µm^2", "Mean probability"
"""Names of the measurements; QuPath's own ``Area µm^2`` is that of the polygon."""

LINE_WIDTH = 2
FILL = 0.25
"""Width and opacity with which the Digital Slide Archive draws a region."""

_IDS = uuid.UUID("6d1c63f4-3f0b-5a5e-9b51-0a5a3f1d7c2e")
"""The UUID namespace of the regions' ids: the same regions have the same ids in every file."""


@dataclass(frozen=True)
class ClassTotal:
    """Totals over the regions of one class.

    Attributes:
        count: number of regions.
        area_um2: sum of their areas in square micrometres.
        mean_probability: mean over their pixels; None where a region has none.
    """

    count: int
    area_um2: float
    mean_probability: float | None


def write_results_geojson(
    path: str | Path,
    results: Iterable[RegionResult],
    *,
    names: Sequence[str] = ("background", "target"),
    colours: Mapping[int, tuple[int, int, int]] = COLOURS,
    object_type: ObjectType = "annotation",
) -> dict[int, ClassTotal]:
    """Write one Feature, a Polygon with its holes, for each region as it comes; return the totals of each label.

    The file is written under a temporary name and renamed, gzipped if its name ends in ``.gz`` (QuPath opens both).
    Vertices have at most two decimals of a level-0 pixel. Ids are computed from the geometry and the class.

    Args:
        names: class name of each label; 255 is always ``exclusion``.
        colours: RGB of each label; missing classes take colours of a fixed palette in turn.
        object_type: see ``ObjectType``; from about 10,000 regions on, ``detection`` keeps QuPath responsive.

    Raises:
        CvmError: an unknown object type, or a region whose label has no name; then nothing is written.
    """
    styles = _styles(names, colours, object_type)
    totals = _Totals()
    with _written(Path(path)) as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, result in enumerate(results, start=1):
            feature = _feature(number, result, styles)
            file.write(",\n" if number > 1 else "\n")
            file.write(feature)
            totals.add(result)
        file.write("\n]}\n")
    return totals.by_label()


def results_document(
    results: Iterable[RegionResult],
    *,
    names: Sequence[str] = ("background", "target"),
    colours: Mapping[int, tuple[int, int, int]] = COLOURS,
    object_type: ObjectType = "annotation",
) -> dict[str, Any]:
    """Make the GeoJSON document that ``write_results_geojson`` writes, in memory; arguments and errors as there."""
    styles = _styles(names, colours, object_type)
    features = [json.loads(_feature(number, result, styles)) for number, result in enumerate(results, start=1)]
    return {"type": "FeatureCollection", "features": features}


def total_by_class(results: Iterable[RegionResult]) -> dict[int, ClassTotal]:
    """Compute count, area and mean probability of the regions of each label that occurs, in the order of the labels."""
    totals = _Totals()
    for result in results:
        totals.add(result)
    return totals.by_label()


def write_region_table(
    path: str | Path,
    totals: Mapping[int, ClassTotal],
    *,
    names: Sequence[str] = ("background", "target"),
    tissue_um2: float | None = None,
) -> None:
    """Write a CSV with one row for each class: ``class, count, area_um2, mean_probability, share_of_tissue``.

    A class without a region has a row of zeros; the background has a row only where it has regions. Unknown values stay
    empty. The file is written under a temporary name and renamed.

    Args:
        totals: as ``write_results_geojson`` or ``total_by_class`` return them.
        names: class name of each label; 255 is always ``exclusion``.
        tissue_um2: area of the tissue in square micrometres, the denominator; None leaves the share empty.

    Raises:
        CvmError: a label without a name, or an area of tissue not above 0.
    """
    if tissue_um2 is not None and not tissue_um2 > 0:
        raise CvmError(f"tissue_um2 must be above 0 square micrometres, or None, got {tissue_um2!r}")
    titles = class_titles(names)
    unnamed = sorted(set(totals) - set(titles))
    if unnamed:
        raise CvmError(f"there are regions of the label {unnamed[0]}, for which names has no class")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["class", "count", "area_um2", "mean_probability", "share_of_tissue"])
    for label in sorted({*range(1, len(names)), *totals}):
        total = totals.get(label, ClassTotal(0, 0.0, None))
        mean = "" if total.mean_probability is None else f"{total.mean_probability:.4f}"
        share = "" if tissue_um2 is None else f"{total.area_um2 / tissue_um2:.6f}"
        table.writerow([titles[label], total.count, f"{total.area_um2:.2f}", mean, share])
    write_text(Path(path), text.getvalue())


class _Totals:
    """Sums over regions, by label."""

    def __init__(self) -> None:
        self.sums: dict[int, tuple[int, float, int, float | None]] = {}

    def add(self, result: RegionResult) -> None:
        """Add a region to the sums of its label: regions, area, pixels, probability."""
        count, area, pixels, sums = self.sums.get(result.region.label, (0, 0.0, 0, 0.0))
        known = None if result.mean_probability is None or sums is None else result.mean_probability * result.pixels
        summed = None if known is None or sums is None else sums + known
        self.sums[result.region.label] = (count + 1, area + result.area_um2, pixels + result.pixels, summed)

    def by_label(self) -> dict[int, ClassTotal]:
        """Return the totals in the order of the labels."""
        return {
            label: ClassTotal(count, area, None if sums is None else sums / pixels)
            for label, (count, area, pixels, sums) in sorted(self.sums.items())
        }


def _styles(
    names: Sequence[str], colours: Mapping[int, tuple[int, int, int]], object_type: ObjectType
) -> dict[int, dict[str, Any]]:
    """Make the properties common to all regions of a class, by label.

    Raises:
        CvmError: an unknown object type.
    """
    if object_type not in get_args(ObjectType):
        raise CvmError(f"object_type must be one of {', '.join(get_args(ObjectType))}, got {object_type!r}")
    return {
        label: _style(title, rgb, object_type)
        for label, title in class_titles(names).items()
        if (rgb := label_colours(names, colours).get(label)) is not None
    }


def _style(title: str, rgb: tuple[int, int, int], object_type: ObjectType) -> dict[str, Any]:
    """Make the properties common to all regions of a class."""
    colour = ", ".join(map(str, rgb))
    return {
        "objectType": object_type,
        "classification": {"name": title, "color": list(rgb)},
        "isLocked": False,
        "label": {"value": title},
        "group": title,
        "lineColor": f"rgb({colour})",
        "fillColor": f"rgba({colour}, {FILL})",
        "lineWidth": LINE_WIDTH,
    }


def _feature(number: int, result: RegionResult, styles: Mapping[int, Mapping[str, Any]]) -> str:
    """Format one region as JSON text.

    Raises:
        CvmError: a label without a class.
    """
    if result.region.label not in styles:
        raise CvmError(f"region {number} has the label {result.region.label}, for which names has no class")
    style = styles[result.region.label]
    rings = (result.region.exterior, *result.region.holes)  # one at a time: a ring's text takes less than its lists
    coordinates = f"[{','.join(json.dumps(_closed(ring), separators=(',', ':')) for ring in rings)}]"
    title = style["group"]
    measurements = {AREA: round(result.area_um2, 3)}
    if result.mean_probability is not None:
        measurements[PROBABILITY] = round(result.mean_probability, 4)
    properties = json.dumps({**style, "name": f"{title} {number}", "measurements": measurements}, ensure_ascii=False)
    key = uuid.uuid5(_IDS, f"{number} {title} {coordinates}")
    geometry = f'{{"type": "Polygon", "coordinates": {coordinates}}}'
    return f'{{"type": "Feature", "id": "{key}", "geometry": {geometry}, "properties": {properties}}}'


def _closed(ring: Ring) -> list[list[float]]:
    """Round the vertices for writing and repeat the first one at the end; whole numbers have no fraction."""
    rounded = [[_short(x), _short(y)] for x, y in ring]
    return [*rounded, rounded[0]]


def _short(value: float) -> float:
    return int(value) if value == int(value) else round(value, DECIMALS)


@contextmanager
def _written(path: Path) -> Iterator[IO[str]]:
    """Open a text file that is renamed to `path` when it is complete, gzipped by its suffix."""
    with replacing(path) as aside, ExitStack() as stack:
        raw = stack.enter_context(aside.open("wb"))
        if path.suffix.lower() == ".gz":  # without time and name: the same regions give the same bytes
            packed = gzip.GzipFile("", "wb", 6, raw, mtime=0)
            yield stack.enter_context(io.TextIOWrapper(packed, encoding="utf-8"))
        else:
            yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8"))
