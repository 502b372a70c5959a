"""Correlation maps, contrast maps and the edge-aware Chan-Vese solver: mathematics on arrays."""

from cvm_monai.knobs import Centre, MeansRule, SolverName
from cvm_monai.variational.aos import aos_step
from cvm_monai.variational.backends import BackendName
from cvm_monai.variational.contrast import centred, contrast_maps, correlation_maps, normalise
from cvm_monai.variational.evidence import ContrastEvidence
from cvm_monai.variational.point_classifiers import linear_discriminant, nearest_point_vote
from cvm_monai.variational.result import Solution, Status
from cvm_monai.variational.segment import Segmentation, average, segment
from cvm_monai.variational.selective import euclidean_distance, geodesic_distance
from cvm_monai.variational.solve import solve

__all__ = [
    "BackendName",
    "Centre",
    "ContrastEvidence",
    "MeansRule",
    "Segmentation",
    "Solution",
    "SolverName",
    "Status",
    "aos_step",
    "average",
    "centred",
    "contrast_maps",
    "correlation_maps",
    "euclidean_distance",
    "geodesic_distance",
    "linear_discriminant",
    "nearest_point_vote",
    "normalise",
    "segment",
    "solve",
]
