"""Read annotation files of every format."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from cvm_monai.annotations.asap import iter_asap
from cvm_monai.annotations.assign import assign
from cvm_monai.annotations.class_map import with_unclassified
from cvm_monai.annotations.dsa import is_document, iter_document
from cvm_monai.annotations.geojson import is_feature, iter_geojson
from cvm_monai.annotations.label_image import SUFFIXES, iter_label_image
from cvm_monai.annotations.labels import ClassMap, label_table, without_numbers
from cvm_monai.annotations.model import Annotations, Colour, Point, Region
from cvm_monai.annotations.outside import clip
from cvm_monai.annotations.parsed_object import ParsedObject
from cvm_monai.annotations.points_csv import iter_single_case
from cvm_monai.errors import CvmError
from cvm_monai.files import archived_name, iter_json

Parser = Callable[[Path], Iterator[ParsedObject]]
"""Yields the objects of one file; every error is a CvmError that names the file and the place."""


def iter_json_objects(path: Path) -> Iterator[ParsedObject]:
    """Yield the objects of a JSON file, GeoJSON or the Digital Slide Archive's; each part's keys decide which.

    Raises:
        CvmError: malformed JSON (with its line), other JSON, or a malformed object.
    """
    numbers = count(1)
    for number, item in enumerate(iter_json(path), start=1):
        if is_document(item):
            yield from iter_document(item, f"{path}, annotation {number}")
        elif number == 1 and not is_feature(item):
            raise CvmError(
                f"{path}: not GeoJSON; a FeatureCollection, a list of features or one Feature is expected, or an "
                "annotation of the Digital Slide Archive"
            )
        else:
            yield from iter_geojson(item, path, numbers)


def iter_archive(path: Path) -> Iterator[ParsedObject]:
    """Yield the objects of the single annotation file in a ZIP archive, as QuPath exports it.

    Raises:
        CvmError: no such archive, a file of another type in it, or an error of its parser.
    """
    name = archived_name(path)
    suffix = next((suffix for suffix in ARCHIVED if name.lower().endswith(suffix)), None)
    if suffix is None:
        raise CvmError(f"{path} holds {name}, which is not an annotation file; supported are {', '.join(ARCHIVED)}")
    return PARSERS[suffix](path)


ARCHIVED = (".geojson", ".json", ".xml", ".csv")
"""Suffixes of files that are read from an archive."""

PARSERS: dict[str, Parser] = {
    ".geojson": iter_json_objects,
    ".geojson.gz": iter_json_objects,
    ".json": iter_json_objects,
    ".json.gz": iter_json_objects,
    ".xml": iter_asap,
    ".xml.gz": iter_asap,
    ".csv": iter_single_case,
    ".geojson.zip": iter_archive,
    ".json.zip": iter_archive,
    ".xml.zip": iter_archive,
    ".zip": iter_archive,
    **dict.fromkeys(SUFFIXES, iter_label_image),
}
"""The parser for each suffix; a new format needs one parser and its suffixes here."""


def read_annotations(
    path: str | Path,
    *,
    classes: ClassMap | None = None,
    unclassified: str | int | None = None,
    image_shape: tuple[int, int] | None = None,
    image: object = "the image",
) -> Annotations:
    """Read the points and regions of one image; the suffix chooses the parser, for JSON its content.

    Self-intersecting outlines are repaired and counted, outlines without area are left out and counted.

    Args:
        classes: class map such as ``{"Tumor": "target", "Stroma": "background"}``, see ``label_table``; None reads
            ``target``, ``background`` and ``exclusion`` (1, 0, 255) only.
        unclassified: what an annotation without a label means; None leaves that to the class map.
        image_shape: (height, width) at level 0; what lies outside is left out and counted, see ``outside.clip``. None
            leaves everything as it is.
        image: the image's file, for the error message where all annotations lie outside.

    Raises:
        CvmError: an unknown suffix, unknown labels (all of them, with their counts), annotations of another image, or
            an error of the parser, always with the file and the place in it.

    Example:
        >>> import cvm_monai as cvm
        >>> clicks = cvm.read_annotations("data/phantom/points/case_000.geojson")
        >>> len(clicks.points), sorted(clicks.labels())
        (10, [0, 1])
    """
    counts: Counter[str] = Counter()
    colours: dict[int, Colour] = {}
    items = list(iter_annotations(path, classes=classes, unclassified=unclassified, counts=counts, colours=colours))
    points = tuple(item for item in items if isinstance(item, Point))
    regions = tuple(item for item in items if isinstance(item, Region))
    annotations = Annotations(points, regions, dict(counts), colours)
    return annotations if image_shape is None else clip(annotations, image_shape, source=path, image=image)


def iter_annotations(
    path: str | Path,
    *,
    classes: ClassMap | None = None,
    unclassified: str | int | None = None,
    counts: Counter[str] | None = None,
    colours: dict[int, Colour] | None = None,
) -> Iterator[Point | Region]:
    """Yield the points and regions that `read_annotations` reads, for files larger than memory (GeoJSON, also gzipped).

    Regions are checked in groups, so that later points may come before them.

    Args:
        classes, unclassified: as ``read_annotations``.
        counts: incremented for what is left out or repaired, by kind.
        colours: filled with the colour of each label.

    Raises:
        CvmError: as ``read_annotations``; raised after the objects before the error were yielded.
    """
    path = Path(path)
    suffix = annotation_suffix(path)
    if suffix is None:
        what = "is a folder; give one annotation file" if path.is_dir() else "unknown kind of annotation file"
        raise CvmError(f"{path}: {what}; supported are {', '.join(PARSERS)}")
    table = label_table(classes if unclassified is None else with_unclassified(classes, unclassified))
    if PARSERS[suffix] is iter_asap:
        table = without_numbers(table, classes)
    tally = Counter() if counts is None else counts
    return assign(PARSERS[suffix](path), table=table, path=path, counts=tally, colours=colours)


def annotation_suffix(path: Path) -> str | None:
    """Return the known suffix of a file's name, or None."""
    name = path.name.lower()
    return next((suffix for suffix in PARSERS if name.endswith(suffix)), None)
