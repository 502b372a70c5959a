"""Resolve image names: annotations, masks and tables name images with or without their suffix."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from cvm_monai.slides.image import IMAGE_SUFFIXES
from cvm_monai.slides.opening import SLIDE_SUFFIXES

OME = ".ome"
"""First part of the double suffix of OME-TIFF; QuPath drops both parts in the names of exports."""


def normal(name: str) -> str:
    """Normalise a name to one Unicode normal form: operating systems write accents as one character or as two."""
    return unicodedata.normalize("NFC", name)


def bare(name: str) -> str:
    """Remove an image's suffix, also OME-TIFF's double one, from a name, and normalise it."""
    name = normal(name)
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in SLIDE_SUFFIXES:
        name = name[: -len(suffix)]
    return name[: -len(OME)] if name.lower().endswith(OME) else name


class Names:
    """Looks up the ids of images by their possible names.

    ``s1.ome.tif`` with the id ``s1.ome`` is found by ``s1.ome``, ``s1.ome.tif`` and ``s1``. An image with exactly that
    id, file name or other name takes precedence; an ambiguous name finds none.

    Args:
        images: file of each id.
        others: the id of further names, such as paths, see ``slides.files.other_names``.
    """

    def __init__(self, images: Mapping[str, Path], others: Mapping[str, str] = MappingProxyType({})) -> None:
        self._ids = {normal(image_id): image_id for image_id in images}
        further = [(text, self._ids[normal(image_id)]) for text, image_id in others.items()]
        files = [(file.name, image_id) for image_id, file in images.items()]
        own = [(image_id, image_id) for image_id in images]
        self._exact = _unique((normal(text), image_id) for text, image_id in (*files, *further))
        self._bare = _unique((bare(text), image_id) for text, image_id in (*files, *further, *own))

    def find(self, name: str) -> str | None:
        """Return the id of the image with a name, or None."""
        name = normal(name)
        return self._ids.get(name) or self._exact.get(name) or self._bare.get(bare(name))


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Map names to ids, without ambiguous names."""
    meant: dict[str, set[str]] = {}
    for name, image_id in pairs:
        meant.setdefault(name, set()).add(image_id)
    return {name: next(iter(ids)) for name, ids in meant.items() if len(ids) == 1}
