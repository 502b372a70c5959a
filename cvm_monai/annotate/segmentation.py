"""Answer clicks on an image: u of a window by clicks, by the network, or by both, its outlines and the next place."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cvm_monai.annotate.project import Project, ProjectImage
from cvm_monai.annotations import Point, Region, regions_from_labels
from cvm_monai.errors import CvmError
from cvm_monai.inference import working_factor
from cvm_monai.interactive import ColdFeatures
from cvm_monai.interactive.current import ActiveModel, ModelLoader
from cvm_monai.interactive.next_place import NextPlace, where_next
from cvm_monai.interactive.outlines import Outlines
from cvm_monai.interactive.prediction import entropy_map, probabilities_of, segment_window
from cvm_monai.interactive.segmenter import ClickSegmenter
from cvm_monai.interactive.window import Clicks, Window, clipped, read_pixels, whole, window_around, working_shape
from cvm_monai.slides import SlideImage

Source = Literal["clicks", "clicks+network", "network"]

WHOLE = 2048
"""Longest side in working px of an image that is answered as a whole."""

MOST_CLICKS = 100
"""Number of clicks of each class that are used, the last ones: each needs a map."""

ANSWERS = 16
"""Number of images whose last answer is kept, to be taken."""

NO_CLICKS = "click once in the target and once outside it"


@dataclass(frozen=True)
class Answer:
    """The segmentation of a window.

    Attributes:
        u: (h, w) float32 in [0, 1]; None where there is none.
        reason: why there is none.
        features: kind of features that were compared.
        first: whether they had to be computed.
    """

    window: Window
    source: Source
    features: str
    u: np.ndarray | None
    reason: str | None
    seconds: float
    first: bool
    label: int

    def outlines(self, threshold: float, label: int) -> tuple[Region, ...]:
        """Outline where u is above the threshold, in level-0 pixels."""
        if self.u is None:
            return ()
        window, (height, width) = self.window, self.u.shape
        scale = (window.height / height, window.width / width)
        above = np.where(self.u > threshold, 1, 0).astype(np.uint8)
        found = regions_from_labels(above, scale=scale, origin=(window.y, window.x), simplify=min(scale))
        return tuple(replace(region, label=label) for region in found)

    def place(self) -> tuple[float, float, NextPlace] | None:
        """Return (x, y) in level-0 pixels of the place where a click helps most; None where u is certain."""
        found = None if self.u is None else where_next(self.u)
        if self.u is None or found is None:
            return None
        (height, width), window = self.u.shape, self.window
        x = window.x + (found.column + 0.5) * window.width / width
        return x, window.y + (found.row + 0.5) * window.height / height, found


class Answers:
    """Answer clicks and predictions on a project's images, one at a time: a second would slow the first down.

    Args:
        project: whose images are segmented.
        models: the network in use.
    """

    def __init__(self, project: Project, models: ModelLoader) -> None:
        self.project, self.models = project, models
        self._clicks = ClickSegmenter()
        self._computing, self._keeping = threading.Lock(), threading.Lock()
        self._last: OrderedDict[str, Answer] = OrderedDict()
        self._entropy: dict[tuple[str, str], float] = {}

    def segment(
        self,
        image: ProjectImage,
        points: Sequence[Point],
        *,
        window: tuple[float, float, float, float] | None = None,
        label: int = 1,
        chosen: Mapping[str, Any] | None = None,
        pretrained: bool = False,
    ) -> Answer:
        """Segment a window by the points in it, against those of all other classes.

        Without points of both kinds the network answers alone, or there is no u and a reason.

        Args:
            window: x, y, width and height in level-0 pixels; None: the whole image, or a part around the points.
            label: class of the target.
            chosen: `lam` and `eta`, where they are not those of the training or the defaults.
            pretrained: compare the pretrained features alone, as before any training, although there is a network.

        Raises:
            CvmError: a window outside the image, a bad knob, or an image that cannot be read.
        """
        start = time.perf_counter()
        opened, current = self.project.opened(image), self.models.untrained() if pretrained else self.models.get()
        factor = self._factor(image, opened, current)
        place = _window(window, points, opened, factor)
        clicks = _clicks(points, place, label)
        with self._computing:
            if clicks is not None:
                found = self._by_clicks(opened, place, clicks, current, factor, dict(chosen or {}), label)
            elif current.trained:
                found = self._by_network(opened, place, current, factor, label)
            else:
                found = Answer(place, "clicks", _features(current), None, NO_CLICKS, 0.0, False, label)
        return self._keep(image, replace(found, seconds=time.perf_counter() - start))

    def predict(
        self, image: ProjectImage, *, window: tuple[float, float, float, float] | None = None, label: int = 1
    ) -> Answer:
        """Segment a window by the network alone; arguments and errors as `segment`.

        Raises:
            CvmError: there is no trained network.
        """
        start = time.perf_counter()
        opened, current = self.project.opened(image), self.models.get()
        if not current.trained:
            raise CvmError("there is no trained network yet")
        factor = self._factor(image, opened, current)
        with self._computing:
            found = self._by_network(opened, _window(window, (), opened, factor), current, factor, label)
        return self._keep(image, replace(found, seconds=time.perf_counter() - start))

    def last(self, image: ProjectImage) -> Answer:
        """Return the last answer on an image.

        Raises:
            CvmError: there is none.
        """
        found = self._last.get(image.id)
        if found is None or found.u is None:
            raise CvmError("there is no segmentation of this image to take: click first")
        return found

    def outlined(self, image: ProjectImage, folder: Path) -> Outlines:
        """Segment a whole image of any size by the network; large ones tile by tile, with files in `folder`.

        Raises:
            CvmError: there is no trained network, or it is of other classes.
        """
        opened, current = self.project.opened(image), self.models.get()
        factor, names = self._factor(image, opened, current), tuple(self.project.classes.names)
        with self._computing:
            found = segment_window(
                opened, whole(opened.shape), current=current, factor=factor, names=names, folder=folder
            )
        return Outlines(replace(found, mpp=self.project.known_mpp(image, opened)))

    def uncertainty(self, image: ProjectImage) -> float:
        """Compute the mean entropy in bits of the network's prediction, once for each network.

        Raises:
            CvmError: an image that cannot be read.
        """
        current = self.models.get()
        key = (image.id, current.key)
        if key not in self._entropy:
            opened = self.project.opened(image)
            with self._computing:
                found = entropy_map(opened, current=current, factor=self._factor(image, opened, current))
            self._entropy[key] = float(found.mean())
        return self._entropy[key]

    def _factor(self, image: ProjectImage, opened: SlideImage, current: ActiveModel) -> float:
        """Return the working px of one level-0 pixel."""
        knobs = current.knobs
        mpp = knobs["mpp"] if current.trained else self.project.mpp
        return working_factor(
            scale=knobs["scale"], mpp=mpp, image_mpp=self.project.known_mpp(image, opened), case_id=opened.path.name
        )

    def _by_clicks(
        self,
        opened: SlideImage,
        window: Window,
        clicks: Clicks,
        current: ActiveModel,
        factor: float,
        chosen: Mapping[str, Any],
        label: int,
    ) -> Answer:
        source: Source = "clicks+network" if current.trained else "clicks"
        target = label if current.knobs["classes"] > 2 else None
        known = Answer(window, source, _features(current), None, None, 0.0, False, label)
        try:
            found = self._clicks(opened, window, clicks, current=current, factor=factor, chosen=chosen, label=target)
        except CvmError as error:
            if "cannot be told apart" not in str(error):
                raise
            return replace(known, reason=str(error))
        return replace(known, u=found.u, first=not found.cached)

    def _by_network(
        self, opened: SlideImage, window: Window, current: ActiveModel, factor: float, label: int
    ) -> Answer:
        known = Answer(window, "network", _features(current), None, None, 0.0, True, label)
        shape = working_shape(window, factor=factor)
        if max(shape) > WHOLE:
            return replace(known, reason=f"the view is larger than {WHOLE} px at the network's resolution: zoom in")
        if not 0 < label < current.knobs["classes"]:
            return replace(known, reason=f"the network was not trained with the class {label}: train again")
        found = probabilities_of(current, read_pixels(opened, window, shape), scale=1.0, window_px=1024)
        return replace(known, u=np.asarray(found[label], dtype=np.float32))

    def _keep(self, image: ProjectImage, answer: Answer) -> Answer:
        with self._keeping:
            self._last[image.id] = answer
            self._last.move_to_end(image.id)
            while len(self._last) > ANSWERS:
                self._last.popitem(last=False)
        return answer


def _features(current: ActiveModel) -> str:
    """Return the kind of features that clicks compare."""
    return current.network.kind if isinstance(current.network, ColdFeatures) else "network"


def _window(
    given: tuple[float, float, float, float] | None, points: Sequence[Point], opened: SlideImage, factor: float
) -> Window:
    """Return the window of a request.

    Raises:
        CvmError: it lies outside the image.
    """
    if given is None:
        found = window_around(
            [(point.x, point.y) for point in points], opened.shape, factor=factor, flat=WHOLE / factor
        )
        return found if points else whole(opened.shape)
    window = clipped(*given, opened.shape)
    if window is None:
        raise CvmError(f"the window lies outside the image, {opened.shape[1]} x {opened.shape[0]} px")
    return window


def _clicks(points: Sequence[Point], window: Window, label: int) -> Clicks | None:
    """Return the clicks in a window; None unless there are some in the class and some outside it."""
    inside: list[tuple[float, float]] = []
    outside: list[tuple[float, float]] = []
    for point in points:
        if window.x <= point.x < window.x + window.width and window.y <= point.y < window.y + window.height:
            (inside if point.label == label else outside).append((point.x, point.y))
    if not inside or not outside:
        return None
    return Clicks(tuple(inside[-MOST_CLICKS:]), tuple(outside[-MOST_CLICKS:]))
