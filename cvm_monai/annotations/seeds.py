"""Sample points that represent regions, for the methods that need points."""

from cvm_monai.annotations.model import UNLABELLED, Annotations, Point
from cvm_monai.annotations.nesting import covering, nest
from cvm_monai.annotations.raster import region_points


def seed_points(
    annotations: Annotations, *, seed: int = 0, image_shape: tuple[int, int] | None = None
) -> tuple[Point, ...]:
    """Sample a few interior points of each region, see ``region_points``; those of exclusions have the label 255.

    No point lies in a nested region of another class, where two classes overlap, or in an exclusion.

    Args:
        seed: the same seed gives the same points.
        image_shape: (height, width) that clips the regions; None leaves them whole.
    """
    regions = nest(annotations.regions)
    exclusions = [region for region in regions if region.label == UNLABELLED]
    covered = covering(regions, exclusions)
    points: list[Point] = []
    for index, region in enumerate(regions):
        apart = covered.get(index, []) if region.label != UNLABELLED else []
        points += region_points(region, seed=seed + index, image_shape=image_shape, apart=apart)
    return tuple(points)
