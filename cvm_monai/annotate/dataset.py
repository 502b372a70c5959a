"""Make the data set of a training from the annotated images of a project, by the code of `cvm-monai prepare`."""

import csv
import io
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cvm_monai.annotate.project import Project, ProjectImage
from cvm_monai.annotations.document import Document
from cvm_monai.data.datalist import FILE_NAME, DataList, read_datalist
from cvm_monai.data.folds import check_trainable, split
from cvm_monai.data.prepare import prepare
from cvm_monai.data.prepare_slides import prepare_slides
from cvm_monai.data.slide_plan import CutSettings
from cvm_monai.errors import CvmError
from cvm_monai.files import write_text
from cvm_monai.slides import IMAGE_SUFFIXES

FLAT = 4096
"""Longest side in px of an image that is trained on as a whole; tiles are cut from larger ones."""

TILE = 1024
"""Side in px of the tiles that are cut."""

FOLDS = 4
TESTED_FROM = 8
"""Number of patients from which one fold is kept for a test; with fewer, every image trains."""

MOST_PAIRS = 20
"""Largest number of points of each class and image that are used where nothing else is said."""


@dataclass(frozen=True)
class Annotated:
    """An image with its annotations at the time of the training."""

    image: ProjectImage
    document: Document


@dataclass(frozen=True)
class TrainingData:
    """The data set of a training.

    Attributes:
        folder: with its `datalist.json`.
        mpp: um/px at which it is trained; None: the images' own pixels.
        pairs: the most points of one class in an image, up to a limit.
    """

    folder: Path
    mpp: float | None
    pairs: int


def check_annotated(project: Project, found: Sequence[Annotated]) -> None:
    """Refuse annotations that cannot train, before any work.

    Raises:
        CvmError: no annotation, or no image with points of the background and of another class.
    """
    if not found:
        raise CvmError("no image has annotations yet: click in the target and in the background of some images")
    if not any({0} < labels_of(one.document) for one in found):
        raise CvmError(
            f"none of the {len(found)} annotated images has points of both classes: click in the target and in the "
            "background of at least one"
        )


def labels_of(document: Document) -> set[int]:
    """Return the classes of the points and regions of a document, without exclusions."""
    found = {point.label for _, point in document.points()} | {region.label for _, region in document.regions()}
    return {label for label in found if label != 255}


def make_dataset(project: Project, found: Sequence[Annotated], folder: Path) -> TrainingData:
    """Copy the annotations, cut tiles where images are large, check every image, deal folds, write the data list.

    Args:
        found: annotated images.
        folder: gets `source/` (links to the images, copies of the annotations) and `dataset/`.

    Raises:
        CvmError: annotations that cannot train, or an error of `prepare`.
    """
    check_annotated(project, found)
    source, dataset = folder / "source", folder / "dataset"
    patients = _write_source(project, found, source)
    mpp = _tile_mpp(project, found)
    tested = len(patients) >= TESTED_FROM
    try:
        datalist = _prepare(project, source, dataset, mpp=mpp, folds=FOLDS if tested else 1)
        check_trainable(split(datalist, fold=datalist.folds[0]))
    except CvmError:
        if not tested:
            raise
        _write_patients(project, found, source, alone=True)  # a fold takes too much away: train on all
        check_trainable(split(_prepare(project, source, dataset, mpp=mpp, folds=1), fold=0))
    return TrainingData(dataset, mpp if mpp is not None else project.mpp, _pairs(found))


def keeps_a_test(output: Path) -> bool:
    """Whether the training of a run folder kept images for a test, as those made elsewhere always do."""
    dataset = output / "dataset"
    return not (dataset / FILE_NAME).is_file() or read_datalist(dataset).tested


def _prepare(project: Project, source: Path, out: Path, *, mpp: float | None, folds: int) -> DataList:
    """Prepare the source, as a folder of slides if `mpp` is given."""
    if mpp is None:
        prepare(source, out=out, folds=folds, classes=project.class_map)
    else:
        prepare_slides(
            source, out=out, folds=folds, classes=project.class_map, settings=CutSettings(mpp=mpp, tile=TILE)
        )
    return read_datalist(out)


def _write_source(project: Project, found: Sequence[Annotated], source: Path) -> set[str]:
    """Link the images, copy the annotations, write the table of patients; returns the patients."""
    shutil.rmtree(source, ignore_errors=True)
    (source / "images").mkdir(parents=True)
    for one in found:
        path = one.image.path
        (source / "images" / f"{one.image.name}{path.suffix}").symlink_to(path.resolve())
        companion = path.with_suffix("")  # such as the folder beside an MRXS
        if companion.is_dir():
            (source / "images" / one.image.name).symlink_to(companion.resolve())
        write_text(source / "points" / f"{one.image.name}.geojson", one.document.text())
    patients = _patients(project, found)
    _write_patients(project, found, source, alone=len(set(patients.values())) < TESTED_FROM)
    return set(patients.values())


def _write_patients(project: Project, found: Sequence[Annotated], source: Path, *, alone: bool) -> None:
    """Write `cases.csv`; `alone`: all images count as one patient's, so that all of them train."""
    patients = _patients(project, found)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case_id", "patient_id", "mpp"])
    for name, patient in patients.items():
        table.writerow([name, "all" if alone else patient, project.rows.get(name, {}).get("mpp", "")])
    write_text(source / "cases.csv", text.getvalue())


def _patients(project: Project, found: Sequence[Annotated]) -> dict[str, str]:
    """Return the patient of each image: that of the folder's cases.csv, else the image itself."""
    return {one.image.name: project.patient(one.image) for one in found}


def _tile_mpp(project: Project, found: Sequence[Annotated]) -> float | None:
    """Return the um/px of tiles; None where all images are trained on as a whole.

    Raises:
        CvmError: tiles must be cut, and no um/px is known.
    """
    facts = [(one.image, project.facts(one.image)) for one in found]
    large = [image for image, one in facts if max(one.width, one.height) > FLAT or _is_slide(image)]
    if not large:
        return None
    known = [one.mpp for _, one in facts if one.mpp is not None]
    if project.mpp is None and len(known) < len(facts):
        raise CvmError(f"{large[0].path.name} is cut into tiles for the training: start with --mpp, such as --mpp 0.5")
    return project.mpp if project.mpp is not None else max(known)


def _is_slide(image: ProjectImage) -> bool:
    return image.path.suffix.lower() not in IMAGE_SUFFIXES


def _pairs(found: Sequence[Annotated]) -> int:
    """Return the most points of one class in an image, from 5 to the limit."""
    most = [max(Counter(point.label for _, point in one.document.points()).values(), default=0) for one in found]
    return min(MOST_PAIRS, max(5, *most))
