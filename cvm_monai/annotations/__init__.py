"""Points and regions: files in and out, label maps."""

from cvm_monai.annotations.geojson import COLOURS, write_geojson
from cvm_monai.annotations.model import BACKGROUND, TARGET, UNLABELLED, Annotations, Point, Region, first_pairs
from cvm_monai.annotations.points_csv import read_points_csv
from cvm_monai.annotations.raster import rasterise_points, rasterise_regions, region_points
from cvm_monai.annotations.reader import read_annotations

__all__ = [
    "BACKGROUND",
    "COLOURS",
    "TARGET",
    "UNLABELLED",
    "Annotations",
    "Point",
    "Region",
    "first_pairs",
    "rasterise_points",
    "rasterise_regions",
    "read_annotations",
    "read_points_csv",
    "region_points",
    "write_geojson",
]
