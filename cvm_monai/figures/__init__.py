"""Figures of images, points, maps and scores; drawing only, without matplotlib's global state."""

from cvm_monai.figures.box import dice_box
from cvm_monai.figures.curves import training_curves
from cvm_monai.figures.methods import MethodMaps, method_boxes, method_maps
from cvm_monai.figures.overlay import SoftMap, draw_case
from cvm_monai.figures.paper import paper_figure
from cvm_monai.figures.row import FigureRow
from cvm_monai.figures.save import save_figure
from cvm_monai.figures.slide import slide_overlay
from cvm_monai.figures.sweep import Measured, SweepPanel, sweep_curves

__all__ = [
    "FigureRow",
    "Measured",
    "MethodMaps",
    "SoftMap",
    "SweepPanel",
    "dice_box",
    "draw_case",
    "method_boxes",
    "method_maps",
    "paper_figure",
    "save_figure",
    "slide_overlay",
    "sweep_curves",
    "training_curves",
]
