"""Answer a segmentation request: segment, write the result's file, and collect its facts."""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.files import temporary_file, temporary_folder
from cvm_monai.inference import working_factor
from cvm_monai.interactive import ColdFeatures
from cvm_monai.interactive.current import ActiveModel, ModelLoader
from cvm_monai.interactive.outlines import Outlines, check_label_size
from cvm_monai.interactive.prediction import Prediction, segment_window
from cvm_monai.interactive.segmenter import ClickSegmenter
from cvm_monai.interactive.window import whole
from cvm_monai.knob_kinds import Number, Whole
from cvm_monai.knobs import MODEL
from cvm_monai.label_app.app_settings import AppSettings
from cvm_monai.label_app.outputs import (
    LABEL_IMAGES,
    SUFFIXES,
    OutputKind,
    contour_annotations,
    geojson_document,
    output_kind,
    predicted_names,
    write_output,
)
from cvm_monai.label_app.request_region import read_box, read_clicks, read_window, window_of_clicks
from cvm_monai.slides import SlideImage, open_image

Method = Literal["points", "network"]

DEFAULTS: Mapping[str, float] = {"simplify": 1.0, "min_area": 0.0}
"""Knobs of the outlines; `min_poly_area` is the name of `min_area` in QuPath's plug-in."""

TUNABLES = tuple(name for name, knob in MODEL.items() if isinstance(knob.kind, Whole | Number))
"""Knobs of the variational model that a request may name."""


class Segmenter:
    """Segment images as requested. Threads may share it."""

    def __init__(self, settings: AppSettings, current: ModelLoader) -> None:
        self.settings, self.current = settings, current
        self._clicks = ClickSegmenter()

    def __call__(
        self, request: Mapping[str, Any], path: Path, *, method: Method, write: bool = True
    ) -> tuple[str | None, dict[str, Any]]:
        """Return the result's file (temporary; the receiver removes it) and its facts, including GeoJSON.

        The request may hold `foreground`, `background`, `location`, `size`, `roi`, `mpp`, `result_extension`,
        `polygons`, `output` (`json` adds `annotations`, contours as CVAT reads them) and the tunables of `DEFAULTS`.

        Raises:
            CvmError: an error in the request, the image or the network.
        """
        start = time.perf_counter()
        kind = output_kind(request.get("result_extension") or ".png")
        numbers = {name: _number(request, name) for name in DEFAULTS}
        with temporary_folder() as folder:
            found, facts, current = self._segmented(request, path, method, kind if write else None, folder)
            outlines = Outlines(found, **numbers)
            if request.get("polygons", True):
                facts |= {"regions": len(outlines.regions), "geojson": geojson_document(outlines)}
            if request.get("output") == "json":
                facts["annotations"] = contour_annotations(outlines, title=path.name)
            whole_image = _is_of_all(request, kind)
            file = _written(outlines, kind, title=path.name, whole=whole_image) if write else None
        names = {name: label for label, name in enumerate(predicted_names(found.names)) if label}
        region = [found.window.x, found.window.y, found.window.width, found.window.height]
        facts |= {"label_names": names, "region": region, "network": _shown(current)}
        return file, facts | {"seconds": round(time.perf_counter() - start, 3)}

    def _segmented(
        self,
        request: Mapping[str, Any],
        path: Path,
        method: Method,
        kind: OutputKind | None,
        folder: Path,
    ) -> tuple[Prediction, dict[str, Any], ActiveModel]:
        """Return the segmentation, whose files may be in `folder`, its facts, and its network."""
        with open_image(path, mpp=_mpp(request, "mpp")) as image:
            current = self.current.get()
            factor = self.factor(image, current)
            if method == "points":
                found, facts = self._by_clicks(request, image, current, factor)
            else:
                window, facts = read_window(request, image.shape) or whole(image.shape), {}
                if kind in LABEL_IMAGES:
                    check_label_size(
                        whole(image.shape) if _is_of_all(request, kind) else window
                    )  # before the network runs, which may take hours
                names = self.settings.names
                found = segment_window(image, window, current=current, factor=factor, names=names, folder=folder)
            return replace(found, mpp=self._known_mpp(image)), facts | {"working_px": 1 / factor}, current

    def factor(self, image: SlideImage, current: ActiveModel) -> float:
        """Return the working px per level-0 pixel of an image.

        Raises:
            CvmError: the network needs the um/px, and they are unknown.
        """
        known = self._known_mpp(image)
        scale, mpp = current.knobs["scale"], current.knobs["mpp"]
        return working_factor(scale=scale, mpp=mpp, image_mpp=known, case_id=image.path.name)

    def _known_mpp(self, image: SlideImage) -> float | None:
        return image.mpp.value if image.mpp.value is not None else self.settings.image_mpp

    def _by_clicks(
        self,
        request: Mapping[str, Any],
        image: SlideImage,
        current: ActiveModel,
        factor: float,
    ) -> tuple[Prediction, dict[str, Any]]:
        window = window_of_clicks(request, image, factor=factor)
        clicks = read_clicks(request, window)
        answer = self._clicks(
            image,
            window,
            clicks,
            current=current,
            factor=factor,
            chosen={name: MODEL[name].read(request[name]) for name in TUNABLES if request.get(name) not in (None, "")},
        )
        names = self.settings.names[:2]
        found = Prediction((answer.u > 0.5).astype(np.uint8), answer.u, window, image.shape, names)
        facts = {
            "solved_px": list(answer.solved),
            "statuses": list(answer.statuses),
            "features_cached": answer.cached,
            "clicks_outside": clicks.outside,
        }
        facts |= {"clicks_assumed": clicks.assumed} if clicks.assumed else {}
        return found, facts


def _is_of_all(request: Mapping[str, Any], kind: OutputKind) -> bool:
    """Whether the label image must have the size of the whole image, as clients that draw a `roi` expect."""
    named = request.get("location") is not None or request.get("size") is not None
    return kind == "nrrd" or (not named and read_box(request) is not None)


def _written(outlines: Outlines, kind: OutputKind, *, title: str, whole: bool) -> str:
    """Write a temporary file of a kind."""
    path = temporary_file(SUFFIXES[kind])
    try:
        write_output(path, outlines, kind, title=title, whole=whole)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return str(path)


def _shown(current: ActiveModel) -> dict[str, Any]:
    name = None if current.output_dir is None else current.output_dir.name
    network = current.network.kind if isinstance(current.network, ColdFeatures) else current.knobs["network"]
    return {"trained": current.trained, "name": network, "training": name}


def _given(request: Mapping[str, Any], name: str) -> float | None:
    """Read a number of a request; None where it is missing."""
    value = request.get(name)
    return None if value in (None, "") else _finite(name, value)


def _mpp(request: Mapping[str, Any], name: str) -> float | None:
    """Read the micrometres per pixel of a request; None where they are missing."""
    number = _given(request, name)
    if number is not None and not 0 < number < 1000:
        raise CvmError(
            f"{name} must be a positive number of micrometres per pixel, such as 0.5, got {request[name]!r}"[:200]
        )
    return number


def _number(request: Mapping[str, Any], name: str) -> float:
    """Read a tunable of a request, or its default."""
    given = "min_poly_area" if name == "min_area" and request.get(name) is None else name
    value = request.get(given)
    if value in (None, ""):
        return DEFAULTS[name]
    number = _finite(given, value)
    if number < 0:
        raise CvmError(f"{given} must be a number from 0, got {value!r}"[:200])
    return number


def _finite(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise CvmError(f"{name} must be a number, got {value!r}"[:200])
    return number
