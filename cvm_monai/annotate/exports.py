"""Write annotations or predictions of one or all images: GeoJSON for QuPath, label images, or a table of areas."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cvm_monai.annotate.project import Project, ProjectImage
from cvm_monai.annotate.workspace import Workspace
from cvm_monai.annotations import (
    UNLABELLED,
    Annotations,
    RegionResult,
    clip,
    measured_regions,
    rasterise_points,
    total_by_class,
    write_results_geojson,
)
from cvm_monai.annotations.document import Document
from cvm_monai.data.output import write_png
from cvm_monai.errors import CvmError
from cvm_monai.files import temporary_file, temporary_folder, write_table, write_text
from cvm_monai.interactive.outlines import Outlines, check_label_size, whole_label_image
from cvm_monai.interactive.window import whole

What = Literal["geojson", "labels", "areas"]
Source = Literal["annotations", "prediction"]

SUFFIXES: dict[What, str] = {"geojson": ".geojson", "labels": ".png", "areas": ".csv"}
HEADER = ("image", "class", "points", "regions", "area_px", "area_um2")


@dataclass(frozen=True)
class Export:
    """A file that was written; the receiver removes it.

    Attributes:
        name: under which a browser saves it.
    """

    path: Path
    name: str


def export(workspace: Workspace, images: Sequence[ProjectImage], *, what: What, source: Source) -> Export:
    """Write what is asked for into a temporary file, an archive of one file for each image if there are several.

    Images without annotations are left out of an archive.

    Raises:
        CvmError: nothing to export, no trained network, or an image that cannot be read or is too large for a label
            image.
    """
    if source == "prediction" and not workspace.models.get().trained:
        raise CvmError("there is no trained network yet whose predictions could be exported")
    if source == "annotations":
        known = {one.image.id for one in workspace.annotated()}
        images = [image for image in images if image.id in known]
        if not images:
            raise CvmError("there are no annotations to export yet")
    path = temporary_file(".csv" if what == "areas" else SUFFIXES[what] if len(images) == 1 else ".zip")
    try:
        name = images[0].name if len(images) == 1 else workspace.project.folder.name
        if what == "areas":
            rows = (row for image in images for row in _area_rows(workspace, image, source))
            write_table(path, [HEADER, *rows])
        elif len(images) == 1:
            _write(workspace, images[0], path, what, source)
        else:
            _write_archive(workspace, images, path, what, source)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Export(path, f"{name}_{source}{path.suffix}")


def _write_archive(
    workspace: Workspace, images: Sequence[ProjectImage], path: Path, what: What, source: Source
) -> None:
    """Write one file for each image into an archive."""
    kind = zipfile.ZIP_DEFLATED if what == "geojson" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive, temporary_folder() as folder:
        for image in images:
            file = folder / f"{image.name}{SUFFIXES[what]}"
            _write(workspace, image, file, what, source)
            archive.write(file, file.name)
            file.unlink()


def _write(workspace: Workspace, image: ProjectImage, path: Path, what: What, source: Source) -> None:
    """Write the file of one image."""
    if source == "annotations":
        document = workspace.journal(image).current().document
        if what == "geojson":
            write_text(path, document.text())
        else:
            write_png(path, drawn_labels(document, _shape(workspace.project, image), image.name))
        return
    with predicted(workspace, image) as outlines:
        if what == "labels":
            write_png(path, whole_label_image(outlines.prediction))
        else:
            project = workspace.project
            write_results_geojson(path, outlines.regions, names=project.classes.names, colours=project.colours())


def drawn_labels(document: Document, shape: tuple[int, int], name: str) -> np.ndarray:
    """Draw annotations as class numbers (height, width) uint8, 255 where nothing is said; points over regions.

    Raises:
        CvmError: an image that is too large, or annotations of another image.
    """
    check_label_size(whole(shape))
    found = Annotations(tuple(one for _, one in document.points()), tuple(one for _, one in document.regions()))
    found = clip(found, shape, image=name)
    return rasterise_points(found, image_shape=shape, map_shape=shape)


def _area_rows(workspace: Workspace, image: ProjectImage, source: Source) -> Iterator[tuple[object, ...]]:
    """Yield a row for each class of one image; the area in um2 is empty where the um/px are unknown."""
    mpp = workspace.project.facts(image).mpp
    names = {**dict(enumerate(workspace.project.classes.names)), UNLABELLED: "exclusion"}
    points: list[int] = []
    results: tuple[RegionResult, ...]
    if source == "annotations":
        document = workspace.journal(image).current().document
        points = [point.label for _, point in document.points()]
        results = measured_regions([region for _, region in document.regions()], mpp=1.0)
    else:
        with predicted(workspace, image) as outlines:
            results = outlines.regions
    per_pixel = mpp**2 if mpp is not None and source == "prediction" else 1.0
    totals = total_by_class(results)
    for label in sorted({*range(len(names) - 1), *totals}):
        total = totals.get(label)
        count, area = (0, 0.0) if total is None else (total.count, total.area_um2 / per_pixel)
        um2 = "" if mpp is None else f"{area * mpp**2:.2f}"
        yield image.name, names[label], points.count(label), count, f"{area:.0f}", um2


@contextmanager
def predicted(workspace: Workspace, image: ProjectImage) -> Iterator[Outlines]:
    """Yield the outlines of the network's prediction on a whole image; its files stay while the block runs."""
    with temporary_folder() as folder:
        yield workspace.answers.outlined(image, folder)


def _shape(project: Project, image: ProjectImage) -> tuple[int, int]:
    facts = project.facts(image)
    if facts.problem is not None:
        raise CvmError(facts.problem)
    return facts.height, facts.width
