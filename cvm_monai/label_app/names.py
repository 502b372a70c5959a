"""Names that come with a request: what may become a file name, and what stays inside its folder."""

import re
from pathlib import Path

from cvm_monai.errors import CvmError
from cvm_monai.slides import IMAGE_SUFFIXES, SLIDE_SUFFIXES

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
