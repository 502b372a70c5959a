"""Which image a name speaks of: annotations, masks and tables name images with their suffix or without it."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from cvm_monai.slides.image import IMAGE_SUFFIXES
from cvm_monai.slides.opening import SLIDE_SUFFIXES

OME = ".ome"
"""The first half of OME-TIFF's double suffix, which QuPath takes away with the second when it names exports."""


def normal(name: str) -> str:
    """A name with its accents in one normal form: the systems write them as one character or as two."""
    return unicodedata.normalize("NFC", name)


def bare(name: str) -> str:
    """A name without the suffix of an image, also without OME-TIFF's double one, in one normal form."""
    name = normal(name)
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in SLIDE_SUFFIXES:
        name = name[: -len(suffix)]
    return name[: -len(OME)] if name.lower().endswith(OME) else name


class Names:
    """The ids of images by every name that may stand for them.

    ``s1.ome.tif`` with the id ``s1.ome`` is meant by ``s1.ome``, ``s1.ome.tif`` and ``s1``; an image that has just that
    id, file name or other name comes first, and a name that might mean two images means none.

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
        """The id of the image that a name stands for, or None."""
        name = normal(name)
        return self._ids.get(name) or self._exact.get(name) or self._bare.get(bare(name))


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The ids of the names that mean one image only."""
    meant: dict[str, set[str]] = {}
    for name, image_id in pairs:
        meant.setdefault(name, set()).add(image_id)
    return {name: next(iter(ids)) for name, ids in meant.items() if len(ids) == 1}
