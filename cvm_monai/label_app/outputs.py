"""A segmentation as a file that annotation programs open."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np

from cvm_monai.annotations import COLOURS, RegionResult, write_results_geojson
from cvm_monai.annotations.geojson import label_colours
from cvm_monai.annotations.results import AREA
from cvm_monai.errors import CvmError
from cvm_monai.files import replacing, write_text
from cvm_monai.label_app.keyhole import keyhole_ring
from cvm_monai.label_app.segmented import Segmented, label_image, regions, whole_label_image

OutputKind = Literal["png", "nifti", "nrrd", "geojson", "asap", "dsa"]

SUFFIXES: dict[OutputKind, str] = {
    "png": ".png",
    "nifti": ".nii.gz",
    "nrrd": ".nrrd",
    "geojson": ".geojson",
    "asap": ".xml",
    "dsa": ".json",
}
LABEL_IMAGES: tuple[OutputKind, ...] = ("png", "nifti", "nrrd")
"""Kinds of a pixel for each of the image's; the others are polygons."""
_BY_SUFFIX: dict[str, OutputKind] = {suffix: kind for kind, suffix in SUFFIXES.items()} | {".nii": "nifti"}

NRRD = """NRRD0004
type: uint8
dimension: 3
space: left-posterior-superior
sizes: {width} {height} 1
space directions: (1,0,0) (0,1,0) (0,0,1)
kinds: domain domain domain
encoding: gzip
space origin: (0,0,0)

"""
"""The head of a file of 3D Slicer, before the bytes."""

PREDICTED = " (predicted)"
"""Follows the name of a class in what is predicted: QuPath's plug-in deletes the objects whose class a model has."""


def output_kind(name: object) -> OutputKind:
    """The kind of file that a request asks for, by the kind's name or its suffix.

    Raises:
        CvmError: another one.
    """
    text = str(name).strip().lower()
    if text in get_args(OutputKind):
        return text  # type: ignore[return-value]
    kind = _BY_SUFFIX.get(text if text.startswith(".") else f".{text}")
    if kind is None:
        raise CvmError(f"result_extension must be one of {', '.join(_BY_SUFFIX)}, got {name!r}")
    return kind


def predicted_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes in what is predicted."""
    return tuple(name + PREDICTED for name in names)


def write_output(
    path: str | Path,
    found: Segmented,
    kind: OutputKind,
    *,
    simplify: float = 1.0,
    min_area: float = 0.0,
    title: str = "",
    whole: bool = False,
) -> int:
    """Write one file, aside and renamed; returns the number of regions (0 for label images).

    Args:
        kind: `png`, `nifti` and `nrrd`, a label image of the window at level 0 (NIfTI: array axes x, y, identity
            affine; NRRD: axes x, y, z of one slice, pixels of size 1 in the patient's space, as 3D Slicer has images);
            `geojson`, polygons with holes for QuPath and the Digital Slide Archive; `asap`, whose polygons have no
            holes, so that a cut of no width leads to each; `dsa`, an annotation document with holes.
        simplify, min_area: of polygons, see `regions`.
        title: of an annotation document.
        whole: make label images of the whole image, background beside the window.

    Raises:
        CvmError: as `regions` and `label_image`.
    """
    path, names = Path(path), predicted_names(found.names)
    if kind in LABEL_IMAGES:
        _write_labels(path, whole_label_image(found) if whole else label_image(found), kind)
        return 0
    results = regions(found, simplify=simplify, min_area=min_area)
    if kind == "geojson":
        write_results_geojson(path, results, names=names)
        if found.mpp is None:
            _drop_areas(path)
    elif kind == "asap":
        _write_asap(path, results, names)
    else:
        write_text(path, json.dumps(dsa_document(results, names, title=title)) + "\n")
    return len(results)


def _drop_areas(path: Path) -> None:
    """Take the areas out of a GeoJSON file: without um/px they would not be what they are called."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for feature in document["features"]:
        feature["properties"].get("measurements", {}).pop(AREA, None)
    write_text(path, json.dumps(document) + "\n")


def dsa_document(results: Sequence[RegionResult], names: Sequence[str], *, title: str = "") -> dict[str, Any]:
    """An annotation document of the Digital Slide Archive: a closed polyline with its holes for each region."""
    colours = label_colours(names, COLOURS)
    elements = []
    for result in results:
        region, name = result.region, names[result.region.label]
        red, green, blue = colours[region.label]
        elements.append(
            {
                "type": "polyline",
                "closed": True,
                "points": [[x, y, 0] for x, y in region.exterior],
                "holes": [[[x, y, 0] for x, y in hole] for hole in region.holes],
                "label": {"value": name},
                "group": name,
                "lineColor": f"rgb({red}, {green}, {blue})",
                "fillColor": f"rgba({red}, {green}, {blue}, 0.25)",
                "lineWidth": 2,
            }
        )
    return {"name": title or "cvm_monai", "description": "predicted by cvm_monai", "elements": elements}


def contour_annotations(
    found: Segmented, *, simplify: float = 1.0, min_area: float = 0.0, title: str = ""
) -> list[dict[str, Any]]:
    """The regions as MONAI Label's annotations: of each class its contours, a cut of no width leading to each hole."""
    names, results = predicted_names(found.names), regions(found, simplify=simplify, min_area=min_area)
    contours: dict[str, list[list[list[float]]]] = {}
    for result in results:
        ring = keyhole_ring(result.region)
        contours.setdefault(names[result.region.label], []).append([[x, y] for x, y in ring])
    elements = [{"label": label, "contours": rings} for label, rings in contours.items()]
    return [{"annotation": {"name": title, "description": "predicted by cvm_monai", "elements": elements}}]


def _write_asap(path: Path, results: Sequence[RegionResult], names: Sequence[str]) -> None:
    """ASAP's XML: the class is the group for ASAP, and the name for QuPath's plug-in."""
    colours = label_colours(names, COLOURS)
    root = Element("ASAP_Annotations")
    annotations, groups = SubElement(root, "Annotations"), SubElement(root, "AnnotationGroups")
    for result in results:
        label = result.region.label
        colour = "#{:02x}{:02x}{:02x}".format(*colours[label])
        facts = {"Name": names[label], "Type": "Polygon", "PartOfGroup": names[label], "Color": colour}
        vertices = SubElement(SubElement(annotations, "Annotation", facts), "Coordinates")
        for order, (x, y) in enumerate(keyhole_ring(result.region)):
            SubElement(vertices, "Coordinate", {"Order": str(order), "X": f"{x:.10g}", "Y": f"{y:.10g}"})
    for label in sorted({result.region.label for result in results}):
        colour = "#{:02x}{:02x}{:02x}".format(*colours[label])
        group = SubElement(groups, "Group", {"Name": names[label], "PartOfGroup": "None", "Color": colour})
        SubElement(group, "Attributes")
    indent(root)
    with replacing(path) as aside:
        ElementTree(root).write(aside, encoding="utf-8", xml_declaration=True)


def _write_labels(path: Path, labels: np.ndarray, kind: OutputKind) -> None:
    """(H, W) uint8 class numbers."""
    with replacing(path) as aside:
        if kind == "png":
            from PIL import Image

            Image.fromarray(labels).save(aside, format="PNG")
        elif kind == "nrrd":
            height, width = labels.shape
            aside.write_bytes(NRRD.format(width=width, height=height).encode() + gzip.compress(labels.tobytes(), 6))
        else:
            import nibabel

            nibabel.save(nibabel.Nifti1Image(labels.T, np.eye(4)), aside)
