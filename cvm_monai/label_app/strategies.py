"""Which image to annotate next, or which patch of one: QuPath's plug-in asks for both."""

import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from cvm_monai.errors import CvmError
from cvm_monai.label_app.answer import Answerer
from cvm_monai.label_app.automatic import entropy_map
from cvm_monai.label_app.patches import NextPatch, mean_in
from cvm_monai.label_app.window import Window
from cvm_monai.slides import open_image

logger = logging.getLogger(__name__)

AT_ONCE = 32
"""Images that one request may look at for the first time: the server waits for it."""

RECENT = 300
"""Seconds for which an image that was handed out is not handed out again while there are others."""


class Random(Strategy):
    """Any image without a label, or any patch without an annotation of the image that a request names."""

    def __init__(self, answerer: Answerer) -> None:
        super().__init__("Any image without a label")
        self.patch = NextPatch(answerer)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        patch = self.patch(request, datastore, lambda _, patches: np.random.default_rng().random(len(patches)))
        if patch is not None:
            return patch
        waiting = datastore.get_unlabeled_images()
        return {"id": random.choice(waiting)} if waiting else None


class First(Strategy):
    """The first image without a label by name, or the first such patch of the image that a request names, by rows."""

    def __init__(self, answerer: Answerer) -> None:
        super().__init__("The first image without a label, by name")
        self.patch = NextPatch(answerer)

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        patch = self.patch(request, datastore, lambda _, patches: -np.arange(len(patches)))
        if patch is not None:
            return patch
        waiting = sorted(datastore.get_unlabeled_images())
        return {"id": waiting[0]} if waiting else None


class MostUncertain(Strategy):
    """The image without a label on which the current network is least sure: largest mean entropy of its prediction.

    The entropy of an image is computed once for each network. An image that was handed out in the last five minutes
    waits, so that several annotators get different ones. One request looks at 32 new images at most, by name. Of an
    image that the request names, the patch with the largest mean entropy.

    Args:
        answerer: whose network is asked.
    """

    def __init__(self, answerer: Answerer) -> None:
        super().__init__("The image without a label on which the network is least sure (mean entropy in bits)")
        self.answerer, self.patch = answerer, NextPatch(answerer)
        self._known: dict[tuple[str, int, str], float] = {}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        current = self.answerer.current.get()
        if not current.trained:
            raise CvmError("there is no trained network yet whose uncertainty could be asked: use first or random")
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
                        factor = self.answerer.factor(image, current)
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
        """The mean entropy of each patch."""
        current = self.answerer.current.get()
        with open_image(path) as image:
            found = entropy_map(image, current=current, factor=self.answerer.factor(image, current))
            return mean_in(found, image.shape, patches)
