"""Convert labels in a folder of studies to a data list for the bundle's training, even of a single image."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.annotations import UNLABELLED, Annotations, Point, seed_points, write_geojson
from cvm_monai.annotations.labels import class_names
from cvm_monai.data.datalist import FILE_NAME, Case, DataList, read_datalist, write_datalist
from cvm_monai.data.fold_parts import case_record
from cvm_monai.data.folds import Split, check_trainable, teaches
from cvm_monai.errors import CvmError
from cvm_monai.files import sha256
from cvm_monai.inference import working_factor
from cvm_monai.label_app.uploads import read_label
from cvm_monai.slides import IMAGE_SUFFIXES, SlideImage, open_image

CROP = 512
"""Side in working px of the crops of a slide."""

FLAT = 4096
"""Longest side of an image that is used whole in training."""

HELD_OUT = 5
"""One in so many labelled images is for validation; of fewer images, all are for training and validation."""

NO_LABEL = "no image has a label yet: PUT /datastore/label first"
PART_KEY = "label_app_part"


def check_labels(
    labelled: Sequence[tuple[str, Path, Path]],
    *,
    classes: Mapping[str, Any],
    scale: float = 1.0,
    mpp: float | None = None,
    image_mpp: float | None = None,
) -> None:
    """Refuse labels that `write_dataset` would refuse, without reading pixels; same arguments.

    Raises:
        CvmError: no label, unreadable or insufficient labels, or unknown um/px.
    """
    if not labelled:
        raise CvmError(NO_LABEL)
    taught = []
    for image_id, image, label in labelled:
        taught.append(read_label(label, image, classes=classes).labels())
        with open_image(image) as opened:
            known = opened.mpp.value if opened.mpp.value is not None else image_mpp
        working_factor(scale=scale, mpp=mpp, image_mpp=known, case_id=image_id)
    if not any(map(teaches, taught)):
        raise CvmError(
            f"none of the {len(labelled)} labelled images has points or regions of both classes: annotate target and "
            "background on at least one"
        )


def write_dataset(
    labelled: Sequence[tuple[str, Path, Path]],
    folder: str | Path,
    *,
    classes: Mapping[str, Any],
    scale: float = 1.0,
    mpp: float | None = None,
    image_mpp: float | None = None,
    seed: int = 0,
) -> DataList:
    """Write the data list of all labelled images, and crops of slides around their annotations.

    A fifth of the images, chosen by the seed, is for validation if there are at least five; otherwise, and where the
    remaining ones are insufficient for training, all are for both.

    Args:
        labelled: (image id, image, label) of each.
        folder: gets `datalist.json`, `points/` and `images/` (crops).
        classes: class map of the labels.
        scale, mpp: of the network's input.
        image_mpp: um/px of images whose files do not state it.
        seed: of the choice of validation images, and of the points sampled in a slide's regions.

    Raises:
        CvmError: no label, unreadable or insufficient labels, or unknown um/px.
    """
    if not labelled:
        raise CvmError(NO_LABEL)
    folder, cases = Path(folder).resolve(), []
    for image_id, image, label in labelled:
        found = read_label(label, image, classes=classes)
        with open_image(image) as opened:
            known = opened.mpp.value if opened.mpp.value is not None else image_mpp
            if image.suffix.lower() in IMAGE_SUFFIXES and max(opened.shape) <= FLAT:
                cases.append(_case(image_id, image_id, image, found, known, folder, classes))
                continue
            factor = working_factor(scale=scale, mpp=mpp, image_mpp=known, case_id=image_id)
            cases += _crops(image_id, opened, found, factor, mpp, folder, classes, seed)
    names = class_names(classes)
    train, validation = _parts(cases, names, seed)
    trained, validated = ({case.case_id for case in part} for part in (train, validation))
    listed = []
    for case in cases:
        both = case.case_id in trained and case.case_id in validated
        part = "both" if both else "train" if case.case_id in trained else "validation"
        listed.append(Case(**{**vars(case), "extra": {PART_KEY: part}}))
    return write_datalist(folder / FILE_NAME, listed, classes=names)


def part_records(*, dataset_dir: str, part: str) -> list[dict[str, Any]]:
    """Return records of the cases that `write_dataset` assigned to `train` or `validation`, as `case_records` does.

    Raises:
        CvmError: as `read_datalist`.
    """
    datalist = read_datalist(dataset_dir)
    cases = [case for case in datalist.cases if case.extra.get(PART_KEY) in (part, "both")]
    return [case_record(case, datalist.classes) for case in cases]


def _parts(cases: Sequence[Case], names: Mapping[str, int], seed: int) -> tuple[list[Case], list[Case]]:
    """Split into training and validation cases."""
    images = sorted({case.patient_id for case in cases})
    if len(images) >= HELD_OUT:
        np.random.default_rng(seed).shuffle(images)
        chosen = set(images[: len(images) // HELD_OUT])
        train = [case for case in cases if case.patient_id not in chosen]
        validation = [case for case in cases if case.patient_id in chosen]
        try:
            check_trainable(Split(tuple(train), tuple(validation), (), names))
            return train, validation
        except ValueError:
            pass  # all cases, where the training cases alone are insufficient
    try:
        check_trainable(Split(tuple(cases), tuple(cases), (), names))
    except ValueError as error:
        raise CvmError(str(error).replace(", or use another fold", "")) from None
    return list(cases), list(cases)


def _case(
    case_id: str,
    patient_id: str,
    image: Path,
    found: Annotations,
    mpp: float | None,
    folder: Path,
    classes: Mapping[str, Any],
) -> Case:
    """Build one case and write its annotations with the project's own labels."""
    points = folder / "points" / f"{case_id}.geojson"
    write_geojson(points, found, names=list(class_names(classes)))
    hashes = {"image": sha256(image), "points": sha256(points)}
    return Case(
        case_id=case_id,
        patient_id=patient_id,
        image=image,
        points=points,
        mask=None,
        mpp=mpp,
        sha256=hashes,
        fold=0,
    )


def _crops(
    image_id: str,
    image: SlideImage,
    found: Annotations,
    factor: float,
    mpp: float | None,
    folder: Path,
    classes: Mapping[str, Any],
    seed: int,
) -> list[Case]:
    """Build a case for each lattice cell with points; regions contribute points to the cells that they cover."""
    from PIL import Image

    points = [*found.points, *seed_points(found, seed=seed, image_shape=image.shape)]
    points = [point for point in points if point.label != UNLABELLED]
    step = factor if mpp is not None else 1.0  # with a scale the training resamples its images
    size = CROP if mpp is not None else round(CROP / factor)
    side = size / step
    cells: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        cells.setdefault((math.floor(point.x / side), math.floor(point.y / side)), []).append(point)
    cases = []
    for (column, row), inside in sorted(cells.items()):
        x, y = column * side, row * side
        case_id = f"{image_id}_{round(x)}_{round(y)}"
        pixels = image.read_scaled((x, y), shape=(size, size), scale=(1 / step, 1 / step))
        path = folder / "images" / f"{case_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        moved = tuple(Point((point.x - x) * step, (point.y - y) * step, point.label) for point in inside)
        cases.append(_case(case_id, image_id, path, Annotations(moved), mpp, folder, classes))
    return cases
