"""Points and regions: read and write annotation files, rasterise label maps, vectorise label maps."""

from cvm_monai.annotations.class_map import read_class_map
from cvm_monai.annotations.describe import describe
from cvm_monai.annotations.geojson import COLOURS, write_geojson
from cvm_monai.annotations.labels import class_colours
from cvm_monai.annotations.model import BACKGROUND, TARGET, UNLABELLED, Annotations, Point, Region, first_pairs
from cvm_monai.annotations.outside import clip
from cvm_monai.annotations.points_csv import read_points_csv
from cvm_monai.annotations.polygons import RegionResult, measured_regions, regions_from_labels, regions_from_rows
from cvm_monai.annotations.raster import rasterise_points, rasterise_regions, region_points
from cvm_monai.annotations.reader import iter_annotations, read_annotations
from cvm_monai.annotations.results import ClassTotal, total_by_class, write_region_table, write_results_geojson
from cvm_monai.annotations.seeds import seed_points

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
    "class_colours",
    "clip",
    "describe",
    "first_pairs",
    "iter_annotations",
    "measured_regions",
    "rasterise_points",
    "rasterise_regions",
    "read_annotations",
    "read_class_map",
    "read_points_csv",
    "region_points",
    "regions_from_labels",
    "regions_from_rows",
    "seed_points",
    "total_by_class",
    "write_geojson",
    "write_region_table",
    "write_results_geojson",
]
