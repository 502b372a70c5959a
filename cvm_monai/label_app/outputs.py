"""Write a prediction to files that annotation programs open: label images, polygons and contours."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from PIL import Image

from cvm_monai.annotations import COLOURS, RegionResult, write_results_geojson
from cvm_monai.annotations.geojson import label_colours
from cvm_monai.annotations.model import Region, Ring
from cvm_monai.annotations.results import AREA, results_document
from cvm_monai.errors import CvmError
from cvm_monai.files import replacing, write_text
from cvm_monai.interactive.outlines import Outlines, label_image, whole_label_image

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
"""Kinds that are label images; the others are polygons."""
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
"""Header of an NRRD file for 3D Slicer, before the bytes."""

PREDICTED = " (predicted)"
"""Suffix of predicted class names: QuPath's plug-in deletes objects whose class is one of the model's."""


def output_kind(name: object) -> OutputKind:
    """Return the kind of file that a request asks for, by the kind's name or its suffix.

    Raises:
        CvmError: an unknown kind.
    """
    text = str(name).strip().lower()
    if text in get_args(OutputKind):
        return text  # type: ignore[return-value]
    kind = _BY_SUFFIX.get(text if text.startswith(".") else f".{text}")
    if kind is None:
        raise CvmError(f"result_extension must be one of {', '.join(_BY_SUFFIX)}, got {name!r}")
    return kind


def predicted_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of predicted classes."""
    return tuple(name + PREDICTED for name in names)


def names_of(outlines: Outlines) -> tuple[str, ...]:
    """Return the predicted class names of outlines, by number."""
    return predicted_names(outlines.prediction.names)


def write_output(
    path: str | Path, outlines: Outlines, kind: OutputKind, *, title: str = "", whole: bool = False
) -> int:
    """Write one file atomically; returns the number of regions (0 for label images).

    Args:
        kind: `png`, `nifti` and `nrrd`, a label image of the window at level 0 (NIfTI: array axes x, y, identity
            affine; NRRD: axes x, y, z of one slice, pixels of size 1 in the patient's space, as 3D Slicer has images);
            `geojson`, polygons with holes for QuPath and the Digital Slide Archive; `asap`, whose polygons have no
            holes, so that each is joined to the outline by a cut of zero width; `dsa`, an annotation document with
            holes.
        title: of the annotation document.
        whole: make label images of the whole image, background outside the window.

    Raises:
        CvmError: as `Outlines.regions` and `label_image`.
    """
    path, found, names = Path(path), outlines.prediction, names_of(outlines)
    if kind in LABEL_IMAGES:
        _write_labels(path, whole_label_image(found) if whole else label_image(found), kind)
        return 0
    if kind == "geojson" and found.mpp is not None:
        write_results_geojson(path, outlines.regions, names=names)
    elif kind == "geojson":
        write_text(path, json.dumps(geojson_document(outlines)) + "\n")
    elif kind == "asap":
        _write_asap(path, outlines.regions, names)
    else:
        write_text(path, json.dumps(dsa_document(outlines.regions, names, title=title)) + "\n")
    return len(outlines.regions)


def geojson_document(outlines: Outlines) -> dict[str, Any]:
    """Build GeoJSON of the regions, without areas where the um/px are unknown."""
    document = results_document(outlines.regions, names=names_of(outlines))
    if outlines.prediction.mpp is None:
        for feature in document["features"]:
            feature["properties"]["measurements"].pop(AREA, None)
    return document


def dsa_document(results: Sequence[RegionResult], names: Sequence[str], *, title: str = "") -> dict[str, Any]:
    """Build an annotation document of the Digital Slide Archive: a closed polyline with holes for each region."""
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


def contour_annotations(outlines: Outlines, *, title: str = "") -> list[dict[str, Any]]:
    """Build MONAI Label's annotations: contours of each class, with a cut of zero width to each hole."""
    contours: dict[str, list[list[list[float]]]] = {}
    for result in outlines.regions:
        ring = keyhole_ring(result.region)
        contours.setdefault(names_of(outlines)[result.region.label], []).append([[x, y] for x, y in ring])
    elements = [{"label": label, "contours": rings} for label, rings in contours.items()]
    return [{"annotation": {"name": title, "description": "predicted by cvm_monai", "elements": elements}}]


def _write_asap(path: Path, results: Sequence[RegionResult], names: Sequence[str]) -> None:
    """Write ASAP's XML: the class is the group for ASAP, and the name for QuPath's plug-in."""
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
    """Write (H, W) uint8 class numbers as an image file."""
    with replacing(path) as aside:
        if kind == "png":
            Image.fromarray(labels).save(aside, format="PNG")
        elif kind == "nrrd":
            height, width = labels.shape
            aside.write_bytes(NRRD.format(width=width, height=height).encode() + gzip.compress(labels.tobytes(), 6))
        else:
            import nibabel

            nibabel.save(nibabel.Nifti1Image(labels.T, np.eye(4)), aside)


Vertex = tuple[float, float]


def keyhole_ring(region: Region) -> Ring:
    """Join a region's outline and holes into one ring of the same area, by the even-odd and the non-zero rule.

    From the leftmost vertex of each hole a horizontal cut goes to the nearest outline on its left, and back.
    """
    ring = list(_turned(region.exterior, clockwise=False))
    holes = [_from_leftmost(_turned(hole, clockwise=True)) for hole in region.holes]
    for hole in sorted(holes):  # from left to right: outlines left of a hole are part of the ring already
        edge, crossing = _nearest_left(ring, hole[0])
        ring[edge + 1 : edge + 1] = [crossing, *hole, hole[0], crossing]
    return tuple(ring)


def _turned(ring: Sequence[Vertex], *, clockwise: bool) -> Sequence[Vertex]:
    """Orient the ring in the given sense of rotation."""
    area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, (*ring[1:], ring[0]), strict=True))
    return ring if (area < 0) == clockwise else tuple(reversed(ring))


def _from_leftmost(ring: Sequence[Vertex]) -> list[Vertex]:
    first = min(range(len(ring)), key=lambda index: ring[index])
    return [*ring[first:], *ring[:first]]


def _nearest_left(ring: Sequence[Vertex], vertex: Vertex) -> tuple[int, Vertex]:
    """Find the edge of a ring that a ray from a vertex to the left meets first: its index and the point."""
    x, y = vertex
    best, found = -1, -float("inf")
    for index, (x0, y0) in enumerate(ring):
        x1, y1 = ring[(index + 1) % len(ring)]
        if (y0 <= y) == (y1 <= y):
            continue
        crossing = x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
        if found < crossing <= x:
            best, found = index, crossing
    if best < 0:
        raise CvmError(f"a hole at ({x:g}, {y:g}) lies outside its region")
    return best, (found, y)
