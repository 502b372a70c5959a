"""Points and regions: files in and out, label maps drawn from them, regions found in label maps."""

from cvm_monai.annotations.geojson import COLOURS, write_geojson
from cvm_monai.annotations.model import BACKGROUND, TARGET, UNLABELLED, Annotations, Point, Region, first_pairs
from cvm_monai.annotations.points_csv import read_points_csv
from cvm_monai.annotations.polygons import RegionResult, regions_from_labels, regions_from_rows
from cvm_monai.annotations.raster import rasterise_points, rasterise_regions, region_points
from cvm_monai.annotations.reader import read_annotations
from cvm_monai.annotations.results import ClassTotal, total_by_class, write_region_table, write_results_geojson

__all__ = [
    "BACKGROUND",
    "COLOURS",
    "TARGET",
    "UNLABELLED",
    "Annotations",
    "ClassTotal",
    "Point",
    "Region",
    "RegionResult",
    "first_pairs",
    "rasterise_points",
    "rasterise_regions",
    "read_annotations",
    "read_points_csv",
    "region_points",
    "regions_from_labels",
    "regions_from_rows",
    "total_by_class",
    "write_geojson",
    "write_region_table",
    "write_results_geojson",
]
