"""Prediction of whole slides in bounded memory: from tiles of tissue to a probability pyramid and regions."""

from cvm_monai.inference.whole_slide.find import Slide, find_slides
from cvm_monai.inference.whole_slide.grid import Grid, TissueOnGrid, make_grid
from cvm_monai.inference.whole_slide.model import SlideModel, class_names, load_slide_model
from cvm_monai.inference.whole_slide.one_slide import SlideOptions
from cvm_monai.inference.whole_slide.results import ResultOptions
from cvm_monai.inference.whole_slide.run import SlidePredictor, SlidesSummary, predict_slides

__all__ = [
    "Grid",
    "ResultOptions",
    "Slide",
    "SlideModel",
    "SlideOptions",
    "SlidePredictor",
    "SlidesSummary",
    "TissueOnGrid",
    "class_names",
    "find_slides",
    "load_slide_model",
    "make_grid",
    "predict_slides",
]
