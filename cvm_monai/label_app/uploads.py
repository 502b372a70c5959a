"""What may be uploaded: names that stay inside their folder, and files that are read before they are kept."""

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
"""Suffixes of what the studies folder may hold as images."""

LABELS = (".geojson", ".json", ".xml", ".png", ".tif", ".tiff", ".nii.gz")
"""Suffixes of labels: the readers' annotation files and label images, and NIfTI that this app wrote."""

LONGEST = 150
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_image_id(image_id: str) -> str:
    """The id itself, where it can be the name of a file in the studies folder and of nothing elsewhere.

    Raises:
        CvmError: an empty or long one, path separators, a leading dot, control characters.
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
    """The tag itself, where it can be the name of a folder of labels.

    Raises:
        CvmError: anything but letters, digits, `_` and `-`.
    """
    if not _TAG.fullmatch(tag):
        raise CvmError(f"a tag has letters, digits, _ and - (at most 64), got {tag[:60]!r}")
    return tag


def split_suffix(name: str, known: tuple[str, ...]) -> tuple[str, str] | None:
    """A file's name as (id, suffix) by the longest known suffix, in any case; None where it has none of them."""
    fitting = [suffix for suffix in known if name.lower().endswith(suffix) and len(name) > len(suffix)]
    if not fitting:
        return None
    length = len(max(fitting, key=len))
    return name[:-length], name[-length:]


def lies_inside(path: str | Path, folder: str | Path) -> bool:
    """Whether a path, all links followed, lies in a folder, all links followed."""
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def check_image_file(path: Path, image_id: str) -> None:
    """Open an image and read one pixel of it.

    Raises:
        CvmError: one that cannot be opened, or a name that is none; the sentence names the id, not the path.
    """
    try:
        with open_image(path) as image:
            image.read((0, 0), shape=(1, 1))
    except ValueError as error:
        raise CvmError(f"{image_id}: {_without(error, path, image_id)}") from None


def check_label_file(path: Path, image: Path, *, classes: Mapping[str, Any]) -> dict[str, Any]:
    """Read an annotation file of an image by the readers that training uses; what was read and what was left out.

    Raises:
        CvmError: whatever they refuse, a file without any point or region, or a label image of another size.
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
    """How the server is told what labels mean."""
    example = example_map(error.labels)
    pairs = ",".join(f"{name}={meaning}" for name, meaning in example.items())
    if any(sign in name for name in example for sign in ",= '\""):
        pairs = f"'{json.dumps(example, ensure_ascii=False)}'"
    options = [f"--conf classes {pairs}"] if example else []
    options += ["--conf unclassified skip"] if None in error.labels else []
    return f"tell the server what they mean when it is started, for example {' '.join(options)}"


def read_label(path: Path, image: Path, *, classes: Mapping[str, Any]) -> Annotations:
    """The points and regions of a label, those outside the image left out and counted.

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
    """(height, width) uint8 of a label image whose axes are x and y, as this app and 3D Slicer write them.

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
    """A label image that this app wrote: numbers, of the image's size, axes (x, y)."""
    import nibabel

    with open_image(image) as opened:
        height, width = opened.shape
    try:
        found: Any = nibabel.load(path)
        shape = tuple(side for side in found.shape if side != 1)
        sound = np.issubdtype(found.get_data_dtype(), np.integer)
    except Exception as error:  # nibabel raises several kinds
        raise CvmError(f"the label cannot be read as NIfTI: {_without(error, path, 'the label')}") from None
    if shape != (width, height) or not sound:
        raise CvmError(f"the label must be integers of {width} x {height}, got {shape}")


def _without(error: Exception, path: Path, name: str) -> str:
    """A reader's sentence that names the file as its sender knows it: an upload lies under a name of the server's."""
    sentence = str(error)
    for written in (str(path.resolve()), str(path), path.name, path.stem):
        sentence = sentence.replace(written, name)
    return sentence.replace(f"{path.resolve().parent}/", "").replace(f"{path.parent}/", "")
