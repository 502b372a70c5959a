from .annotations import Annotations, Point, Region, read_annotations, write_geojson
from .data.datalist import read_datalist
from .data.phantom import generate_phantom
from .data.prepare import prepare
from .data.transforms import map_points
from .inference import load_network, network_input, predict
from .inference.whole_slide import load_slide_model, predict_slides
from .interactive import segment_clicks
from .metrics import score_image
from .networks import build_network
from .registry import register
from .slides import open_image, read_image, read_mask, tissue_mask
from .variational import contrast_maps, correlation_maps, segment, solve

__version__: str

__all__ = [
    "Annotations",
    "Point",
    "Region",
    "build_network",
    "contrast_maps",
    "correlation_maps",
    "generate_phantom",
    "load_network",
    "load_slide_model",
    "map_points",
    "network_input",
    "open_image",
    "predict",
    "predict_slides",
    "prepare",
    "read_annotations",
    "read_datalist",
    "read_image",
    "read_mask",
    "register",
    "score_image",
    "segment",
    "segment_clicks",
    "solve",
    "tissue_mask",
    "write_geojson",
]
