"""Correlation maps, contrast maps and the edge-aware Chan-Vese solver: mathematics on arrays."""

from cvm_monai.variational.aos import aos_step
from cvm_monai.variational.contrast import contrast_maps, correlation_maps, normalise
from cvm_monai.variational.segment import Segmentation, average, segment
from cvm_monai.variational.solve import MeansRule, Solution, SolverName, Status, solve

__all__ = [
    "MeansRule",
    "Segmentation",
    "Solution",
    "SolverName",
    "Status",
    "aos_step",
    "average",
    "contrast_maps",
    "correlation_maps",
    "normalise",
    "segment",
    "solve",
]
