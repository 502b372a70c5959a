"""Read tissue masks drawn by the user: GeoJSON, or a label image of any size."""

from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.annotations import TARGET, rasterise_regions, read_annotations
from cvm_monai.annotations.geojson import unpacked
from cvm_monai.annotations.labels import UNCLASSIFIED, label_key, label_table
from cvm_monai.annotations.move import moved
from cvm_monai.annotations.outside import clip
from cvm_monai.errors import CvmError
from cvm_monai.files import read_json
from cvm_monai.knobs import Origin
from cvm_monai.slides.bounds import corner
from cvm_monai.slides.image import read_mask
from cvm_monai.slides.slide import SlideImage
from cvm_monai.slides.tissue import TissueMask, view_shape

GEOJSON_SUFFIXES = (".geojson", ".json", ".geojson.gz", ".json.gz", ".zip")

SHAPE_TOLERANCE = 0.02
"""Largest relative difference of a label image's scales in x and y, besides one pixel of rounding."""


def read_tissue_mask(path: str | Path, image: SlideImage, *, mpp: float = 8.0, origin: Origin = "level0") -> TissueMask:
    """Read the tissue mask that the user drew for a slide.

    In GeoJSON regions of every class are tissue, except ``background`` and ``exclusion``, which are subtracted from the
    others. A label image may have any size but must show the whole slide: 0 is glass, anything else tissue.

    Args:
        mpp: um/px at which regions are rasterised, as in `tissue_mask`; raising it rounds their outline.
        origin: origin of the regions' coordinates.

    Raises:
        CvmError: a file that cannot be read, without any region, with none inside the slide, or of another shape; or
            an unknown origin.
    """
    path = Path(path)
    if path.name.lower().endswith(GEOJSON_SUFFIXES):
        return _from_regions(path, image, mpp, corner(image, origin))
    labels = read_mask(path)
    scale = image.shape[0] / labels.shape[0], image.shape[1] / labels.shape[1]
    slack = SHAPE_TOLERANCE + 1 / min(labels.shape)
    if abs(scale[0] - scale[1]) > slack * max(scale):
        raise CvmError(
            f"{path}: a mask of {labels.shape[1]} x {labels.shape[0]} px does not have the shape of {image.path}, "
            f"{image.shape[1]} x {image.shape[0]} px; it must show the whole slide"
        )
    return TissueMask(labels != 0, scale, "user")


def _from_regions(path: Path, image: SlideImage, mpp: float, counted_from: tuple[int, int]) -> TissueMask:
    """Rasterise regions on the small view that `tissue_mask` uses."""
    named = {label_key(name) for name in _names(read_json(path))} - set(label_table()) - {UNCLASSIFIED}
    classes = dict.fromkeys([*sorted(named), UNCLASSIFIED], "target")
    found = moved(read_annotations(path, classes=classes), *counted_from)
    regions = clip(found, image.shape, source=path, image=image.path).regions
    if not any(region.label == TARGET for region in regions):
        raise CvmError(f"{path} has no region that could be tissue; draw polygons around it")
    height, width = view_shape(image, mpp)
    drawn = rasterise_regions(regions, image_shape=image.shape, map_shape=(height, width))
    scale = image.shape[0] / height, image.shape[1] / width
    return TissueMask(np.asarray(drawn == TARGET), scale, "user")


def _names(data: Any) -> set[str]:
    """Collect every text that may be an object's class in a document of GeoJSON or of the Digital Slide Archive."""
    if isinstance(data, list):
        return {name for item in data for name in _names(item)}
    if not isinstance(data, dict):
        return set()
    data = {key: unpacked(value) for key, value in data.items() if key != "geometry"}
    found = {name for value in data.values() for name in _names(value)}
    label = data.get("label")
    texts = [data.get(key) for key in ("label", "group", "classification", "name")]
    for text in [*texts, label.get("value") if isinstance(label, dict) else None]:
        if isinstance(text, str | int):
            found.add(str(text).strip())
    if isinstance(data.get("names"), list):
        found.add(": ".join(map(str, data["names"])).strip())
    return found - {""}
