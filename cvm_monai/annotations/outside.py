"""Leave out annotations outside the image."""

from collections.abc import Iterator

from cvm_monai.annotations.model import Annotations, Point, Region
from cvm_monai.errors import CvmError

OUTSIDE = "outside the image"


def reaches(item: Point | Region, image_shape: tuple[int, int]) -> bool:
    """Whether a point lies in an image of (height, width), or a region's box overlaps it."""
    height, width = image_shape
    if isinstance(item, Point):
        return 0 <= item.x < width and 0 <= item.y < height
    x, y = zip(*item.exterior, strict=True)
    return bool(min(x) < width and max(x) > 0 and min(y) < height and max(y) > 0)


def clip(
    annotations: Annotations,
    image_shape: tuple[int, int],
    *,
    source: object = "the annotations",
    image: object = "the image",
) -> Annotations:
    """Leave out the points outside the image and the regions that do not reach it, counted ``outside the image``.

    A region that is partly outside the image is kept whole.

    Args:
        image_shape: (height, width) at level 0.
        source, image: the two files, for messages.

    Raises:
        CvmError: no point or region lies in the image: the annotations belong to another one.
    """
    points = tuple(point for point in annotations.points if reaches(point, image_shape))
    regions = tuple(region for region in annotations.regions if reaches(region, image_shape))
    total = len(annotations.points) + len(annotations.regions)
    outside = total - len(points) - len(regions)
    if outside and outside == total:
        raise CvmError(not_one_inside(annotations, image_shape, source=source, image=image))
    counts = {**annotations.counts, OUTSIDE: annotations.counts.get(OUTSIDE, 0) + outside} if outside else None
    return Annotations(points, regions, annotations.counts if counts is None else counts, annotations.colours)


def not_one_inside(annotations: Annotations, image_shape: tuple[int, int], *, source: object, image: object) -> str:
    """Make the message for annotations that all lie outside their image."""
    x, y = zip(*_positions(annotations), strict=True)
    height, width = image_shape
    return (
        f"{source}: nothing in it lies inside {image} of {width} x {height} px, it reaches from ({min(x):g}, "
        f"{min(y):g}) to ({max(x):g}, {max(y):g}); it belongs to another image, or to another magnification of this one"
    )


def _positions(annotations: Annotations) -> Iterator[tuple[float, float]]:
    for point in annotations.points:
        yield point.x, point.y
    for region in annotations.regions:
        yield from region.exterior
