"""The contrast-based variational model: features and points in, the soft segmentation u of Eq. 7 out."""

from dataclasses import dataclass

import numpy as np
from array_api_compat import is_torch_array

from cvm_monai.knobs import MeansRule, SolverName
from cvm_monai.variational.contrast import Array, contrast_maps, normalise
from cvm_monai.variational.result import Solution
from cvm_monai.variational.solve import solve


@dataclass(frozen=True)
class Segmentation:
    """The pseudo-label of one image.

    Attributes:
        u: (H, W) float32 in [0, 1], or None where no in-target point gave two phases: then there is no pseudo-label.
        contrast: (P, H, W), the map z_p of each in-target point (Eq. 6), of the features' kind and on their device.
        solution: the solver's result for those maps.
    """

    u: np.ndarray | None
    contrast: Array
    solution: Solution


def segment(
    features: Array,
    in_points: Array,
    out_points: Array,
    *,
    eta: float = 0.6,
    method: SolverName = "aos",
    lam: float = 2.0,
    iterations: int = 50,
    tolerance: float = 1e-3,
    means: MeansRule = "alternating",
) -> Segmentation:
    """Segment an image from its features and points: contrast maps, one solve for each in-target point, their mean.

    u = N(sum_p u_p / |P|) (Eq. 7) over the in-target points whose solve ended with two phases.

    Args:
        features: (C, H, W), NumPy or torch; any network's.
        in_points: (P, 2) integer (row, column) on the feature map.
        out_points: (Q, 2) likewise.
        eta: see `contrast_maps`; the rest: see `solve`.

    Raises:
        ValueError: as `contrast_maps` and `solve`.
    """
    z = contrast_maps(features, in_points, out_points, eta=eta)
    z = z.detach() if is_torch_array(z) else z
    solution = solve(z, method=method, lam=lam, iterations=iterations, tolerance=tolerance, means=means)
    return Segmentation(u=average(solution), contrast=z, solution=solution)


def average(solution: Solution) -> np.ndarray | None:
    """Eq. 7: the normalised mean of the usable ones of u_p (P, H, W), NumPy float32; None if there is none."""
    usable = [index for index, entry in enumerate(solution.status) if entry.usable]
    if not usable:
        return None
    mean = normalise(solution.u[usable].mean(0))
    return np.asarray(mean.cpu() if is_torch_array(mean) else mean, dtype=np.float32)
