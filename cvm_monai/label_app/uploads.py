"""Check uploads: names must stay inside their folder, and files are read before they are kept."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cvm_monai.annotations import Annotations, read_annotations
from cvm_monai.annotations.labels import UnknownLabelsError, example_map
from cvm_monai.errors import CvmError
from cvm_monai.files import temporary_folder
from cvm_monai.slides import IMAGE_SUFFIXES, SLIDE_SUFFIXES, open_image

IMAGES = tuple(dict.fromkeys((*IMAGE_SUFFIXES, *SLIDE_SUFFIXES)))
"""Suffixes of images in the studies folder."""

LABELS = (".geojson", ".json", ".xml", ".png", ".tif", ".tiff", ".nii.gz")
"""Suffixes of labels: annotation files and label images of the readers, and NIfTI written by this app."""

LONGEST = 150
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_image_id(image_id: str) -> str:
    """Check and return an id, which must be a valid file name inside the studies folder.

    Raises:
        CvmError: an empty or long id, path separators, a leading dot, control characters.
    """
    shown = repr(image_id[:60])
    if not image_id or len(image_id.encode("utf-8", "replace")) > LONGEST:
        raise CvmError(f"an image's id must have 1 to {LONGEST} bytes, got {shown}")
    if "/" in image_id or "\\" in image_id or ":" in image_id or not image_id.isprintable():
        raise CvmError(f"an image's id is a name, without / \\ : and control characters, got {shown}")
    if image_id.startswith(".") or image_id != image_id.strip():
        raise CvmError(f"an image's id must not begin with a dot, nor begin or end with a space, got {shown}")
    return image_id


def check_tag(tag: str) -> str:
    """Check and return a tag, which must be a valid name of a folder of labels.

    Raises:
        CvmError: anything but letters, digits, `_` and `-`.
    """
    if not _TAG.fullmatch(tag):
        raise CvmError(f"a tag must consist of letters, digits, _ and - (at most 64), got {tag[:60]!r}")
    return tag


def split_suffix(name: str, known: tuple[str, ...]) -> tuple[str, str] | None:
    """Split a file's name into (id, suffix) by the longest known suffix, ignoring case; None without one."""
    fitting = [suffix for suffix in known if name.lower().endswith(suffix) and len(name) > len(suffix)]
    if not fitting:
        return None
    length = len(max(fitting, key=len))
    return name[:-length], name[-length:]


def lies_inside(path: str | Path, folder: str | Path) -> bool:
    """Whether a path lies in a folder, with links of both resolved."""
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def check_image_file(path: Path, image_id: str) -> None:
    """Open an image and read one pixel of it.

    Raises:
        CvmError: a file that cannot be opened, or an invalid name; the message names the id, not the path.
    """
    try:
        with open_image(path) as image:
            image.read((0, 0), shape=(1, 1))
    except ValueError as error:
        raise CvmError(f"{image_id}: {_without(error, path, image_id)}") from None


def check_label_file(path: Path, image: Path, *, classes: Mapping[str, Any]) -> dict[str, Any]:
    """Read an annotation file as training does; returns what was read and what was left out.

    Raises:
        CvmError: an invalid file, one without points and regions, or a label image of another size.
    """
    if _is_nifti(path):
        _check_nifti(path, image)
    try:
        found = read_label(path, image, classes=classes)
    except UnknownLabelsError as error:
        raise CvmError(f"{error.fault.replace(str(path), 'the label')}; {_remedy(error)}") from None
    except ValueError as error:
        raise CvmError(_without(CvmError(_without(error, path, "the label")), image, image.stem)) from None
    left_out = {kind: count for kind, count in found.counts.items() if kind != "repaired"}
    if not found.points and not found.regions:
        without = ", ".join(f"{count} {kind}" for kind, count in left_out.items())
        raise CvmError(f"the label holds neither a point nor a region{f' (left out: {without})' * bool(without)}")
    return {"points": len(found.points), "regions": len(found.regions), "left_out": left_out}


def _remedy(error: UnknownLabelsError) -> str:
    """Return the remedy for unknown labels: how to give the server a class map."""
    example = example_map(error.labels)
    pairs = ",".join(f"{name}={meaning}" for name, meaning in example.items())
    if any(sign in name for name in example for sign in ",= '\""):
        pairs = f"'{json.dumps(example, ensure_ascii=False)}'"
    options = [f"--conf classes {pairs}"] if example else []
    options += ["--conf unclassified skip"] if None in error.labels else []
    return f"tell the server what they mean when it is started, for example {' '.join(options)}"


def read_label(path: Path, image: Path, *, classes: Mapping[str, Any]) -> Annotations:
    """Read the points and regions of a label; those outside the image are left out and counted.

    Raises:
        CvmError: as `read_annotations`.
    """
    with open_image(image) as opened:
        shape = opened.shape
    if not _is_nifti(path):
        return read_annotations(path, classes=classes, image_shape=shape, image=image.name)
    with temporary_folder() as folder:
        png = folder / "label.png"
        Image.fromarray(_nifti_labels(path)).save(png)
        try:
            return read_annotations(png, classes=classes, image_shape=shape, image=image.name)
        except UnknownLabelsError as error:
            error.fault = error.fault.replace(str(png), str(path))
            raise
        except ValueError as error:
            raise CvmError(str(error).replace(str(png), str(path))) from None


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(".nii.gz")


def _nifti_labels(path: Path) -> np.ndarray:
    """Read a NIfTI label image with axes x and y, as this app and 3D Slicer write it, as (height, width) uint8.

    Raises:
        CvmError: a value beyond 0 to 255.
    """
    import nibabel

    found: Any = nibabel.load(path)
    values = np.asarray(found.dataobj)
    if values.size and (values.min() < 0 or values.max() > 255):
        raise CvmError(f"{path}: the values of a label must be class numbers from 0 to 255")
    sides = tuple(side for side in values.shape if side != 1) if values.ndim > 2 else values.shape
    return np.ascontiguousarray(values.reshape(sides).T.astype(np.uint8))


def _check_nifti(path: Path, image: Path) -> None:
    """Check a NIfTI label image: integers, of the image's size, axes (x, y)."""
    import nibabel

    with open_image(image) as opened:
        height, width = opened.shape
    try:
        found: Any = nibabel.load(path)
        shape = tuple(side for side in found.shape if side != 1)
        sound = np.issubdtype(found.get_data_dtype(), np.integer)
    except Exception as error:  # nibabel raises several types
        raise CvmError(f"the label cannot be read as NIfTI: {_without(error, path, 'the label')}") from None
    if shape != (width, height) or not sound:
        raise CvmError(f"the label must be integers of {width} x {height}, got {shape}")


def _without(error: Exception, path: Path, name: str) -> str:
    """Replace the server's path of an upload in a reader's message by the name that the sender knows."""
    sentence = str(error)
    for written in (str(path.resolve()), str(path), path.name, path.stem):
        sentence = sentence.replace(written, name)
    return sentence.replace(f"{path.resolve().parent}/", "").replace(f"{path.parent}/", "")
