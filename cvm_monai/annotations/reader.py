"""One door to every annotation format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cvm_monai.annotations.geojson import read_geojson
from cvm_monai.annotations.model import Annotations
from cvm_monai.annotations.points_csv import read_single_case


class Parser(Protocol):
    """Reads one file; every failure is a ValueError that names the file and the place."""

    def __call__(self, path: Path, *, classes: Mapping[str, str | int] | None = None) -> Annotations: ...


PARSERS: dict[str, Parser] = {
    ".geojson": read_geojson,
    ".geojson.gz": read_geojson,
    ".json": read_geojson,
    ".json.gz": read_geojson,
    ".csv": read_single_case,
}
"""A format is one parser in one file and its suffixes here."""


def read_annotations(path: str | Path, *, classes: Mapping[str, str | int] | None = None) -> Annotations:
    """Read the points and regions of one image; the suffix chooses the parser.

    Args:
        classes: class map such as ``{"Tumor": "target", "Stroma": "background"}``, see ``label_table``; None reads
            ``target``, ``background`` and ``exclusion`` (1, 0, 255) only.

    Raises:
        ValueError: an unknown suffix, or what the parser refuses, always with the file and the place in it.
    """
    path = Path(path)
    suffix = annotation_suffix(path)
    if suffix is None:
        raise ValueError(f"{path}: unknown kind of annotation file; known are {', '.join(PARSERS)}")
    return PARSERS[suffix](path, classes=classes)


def annotation_suffix(path: Path) -> str | None:
    """The known suffix that the file's name ends in, or None."""
    name = path.name.lower()
    return next((suffix for suffix in PARSERS if name.endswith(suffix)), None)
