"""Choose the image to annotate next, or the next patch of an image; QuPath's plug-in asks for both."""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.annotations import Annotations
from cvm_monai.errors import CvmError
from cvm_monai.interactive.next_place import lattice, mean_in
from cvm_monai.interactive.prediction import entropy_map
from cvm_monai.interactive.window import Window
from cvm_monai.label_app.answer import Segmenter
from cvm_monai.label_app.request_region import read_pair
from cvm_monai.label_app.uploads import read_label
from cvm_monai.slides import open_image, tissue_mask

logger = logging.getLogger(__name__)

AT_ONCE = 32
"""Maximal number of new images that one request may rank, since the server waits for it."""

RECENT = 300
"""Seconds before a suggested image is suggested again while there are others."""

PATCH = (1024, 1024)
"""Default width and height of a patch in level-0 pixels."""

TISSUE = 0.2
"""Minimal fraction of tissue in a patch, if any patch reaches it."""

Rank = Callable[[Path, Sequence[Window]], np.ndarray]
"""Returns a number for each patch of an image; the largest is the next."""


class Random:
    """Choose a random image without a label, or a random patch without an annotation of the request's image."""

    description = "Any image without a label"

    def __init__(self, segmenter: Segmenter) -> None:
        self.patch = NextPatch(segmenter)

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any] | None:
        patch = self.patch(request, datastore, lambda _, patches: np.random.default_rng().random(len(patches)))
        if patch is not None:
            return patch
        waiting = datastore.get_unlabeled_images()
        return {"id": random.choice(waiting)} if waiting else None


class First:
    """Choose the first image without a label by name, or the first such patch of the request's image, by rows."""

    description = "The first image without a label, by name"

    def __init__(self, segmenter: Segmenter) -> None:
        self.patch = NextPatch(segmenter)

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any] | None:
        patch = self.patch(request, datastore, lambda _, patches: -np.arange(len(patches)))
        if patch is not None:
            return patch
        waiting = sorted(datastore.get_unlabeled_images())
        return {"id": waiting[0]} if waiting else None


class MostUncertain:
    """Choose the image without a label that has the largest mean entropy of the current network's prediction.

    The entropy of an image is computed once for each network. An image suggested in the last five minutes is
    passed over, so that several annotators get different ones. One request ranks at most 32 new images, by name. For an
    image named by the request, it chooses the patch with the largest mean entropy.

    Args:
        segmenter: whose network predicts.
    """

    description = "The image without a label on which the network is least sure (mean entropy in bits)"

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter, self.patch = segmenter, NextPatch(segmenter)
        self._known: dict[tuple[str, int, str], float] = {}

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any] | None:
        current = self.segmenter.current.get()
        if not current.trained:
            raise CvmError("there is no trained network yet to compute an uncertainty with: use first or random")
        patch = self.patch(request, datastore, self._by_entropy)
        if patch is not None:
            return patch
        ranked: list[tuple[bool, float, str]] = []
        looked_at = 0
        for image_id in sorted(datastore.get_unlabeled_images()):
            path = Path(datastore.get_image_uri(image_id))
            key = (image_id, path.stat().st_mtime_ns, current.key)
            if key not in self._known:
                if looked_at == AT_ONCE:
                    continue
                looked_at += 1
                try:
                    with open_image(path) as image:
                        factor = self.segmenter.factor(image, current)
                        self._known[key] = float(entropy_map(image, current=current, factor=factor).mean())
                except ValueError as error:
                    logger.warning("not ranked: %s", error)
                    continue
            recent = datastore.get_image_info(image_id).get("strategy", {}).get("most_uncertain", {}).get("ts", 0)
            ranked.append((time.time() - recent < RECENT, -self._known[key], image_id))
        if not ranked:
            return None
        _, negative, image_id = min(ranked)
        return {"id": image_id, "mean_entropy_bits": -negative}

    def _by_entropy(self, path: Path, patches: Sequence[Window]) -> np.ndarray:
        """Compute the mean entropy of each patch."""
        current = self.segmenter.current.get()
        with open_image(path) as image:
            found = entropy_map(image, current=current, factor=self.segmenter.factor(image, current))
            return mean_in(found, image.shape, patches)


class NextPatch:
    """Choose the next patch of an image: with tissue, not annotated, and not suggested before.

    When all were suggested it starts again. For an image that the server does not have, the request gives `image_size`,
    and any patch may be chosen.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self._given: dict[str, set[Window]] = {}

    def __call__(self, request: Mapping[str, Any], datastore: Any, rank: Rank) -> dict[str, Any] | None:
        """Return the image's id and the patch as `bbox` [x, y, width, height]; None where the request names no image.

        Args:
            request: `image`, and optionally `patch_size` and `image_size`, each a width and a height.
            rank: of the patches; used only for images of the server.

        Raises:
            CvmError: invalid sizes, or an unknown image.
        """
        image_id = request.get("image")
        if not image_id:
            return None
        if not isinstance(image_id, str):
            raise CvmError(f"image must be an id, got {image_id!r}"[:200])
        size = read_pair("patch_size", request.get("patch_size") or PATCH)
        uri = datastore.get_image_uri(image_id)
        if not uri:
            patches = list(lattice(_told_shape(image_id, request), size))
            scores = np.random.default_rng().random(len(patches))
        else:
            patches = self._candidates(Path(uri), datastore.get_label_uri(image_id, "final"), size)
            scores = rank(Path(uri), patches)
        given = self._given.setdefault(image_id, set())
        if given.issuperset(patches):
            given.clear()
        fresh = [(-score, number) for number, score in enumerate(scores) if patches[number] not in given]
        patch = patches[min(fresh)[1]]
        given.add(patch)
        return {"id": image_id, "bbox": [patch.x, patch.y, patch.width, patch.height]}

    def _candidates(self, path: Path, label: str, size: tuple[float, float]) -> list[Window]:
        """Return the patches with tissue and without annotation; all patches where there are none."""
        with open_image(path) as image:
            patches = list(lattice(image.shape, size))
            tissue = tissue_mask(image)
        corners = np.array([(patch.x, patch.y, patch.width, patch.height) for patch in patches]).T
        kept = tissue.covers(*corners) >= TISSUE
        patches = [patch for patch, keep in zip(patches, kept, strict=True) if keep or not kept.any()]
        if not label:
            return patches
        found = read_label(Path(label), path, classes=self.segmenter.settings.classes)
        return [patch for patch in patches if not _annotated(found, patch)] or patches


def _told_shape(image_id: str, request: Mapping[str, Any]) -> tuple[int, int]:
    """Read (height, width) of an image that the server does not have from the request."""
    width, height = read_pair("image_size", request.get("image_size") or (0, 0))
    if min(width, height) < 1:
        raise CvmError(f"there is no image {image_id[:60]!r} on the server, and the request has no image_size")
    return int(height), int(width)


def _annotated(found: Annotations, patch: Window) -> bool:
    """Whether a point, or a region's bounding box, meets a patch."""
    right, bottom = patch.x + patch.width, patch.y + patch.height
    if any(patch.x <= point.x < right and patch.y <= point.y < bottom for point in found.points):
        return True
    for region in found.regions:
        (x0, y0), (x1, y1) = np.min(region.exterior, axis=0), np.max(region.exterior, axis=0)
        if x0 < right and x1 > patch.x and y0 < bottom and y1 > patch.y:
            return True
    return False
