"""The contrast-based variational model: compute the soft segmentation u of Eq. 7 from features and points."""

from dataclasses import dataclass

import numpy as np
from array_api_compat import is_torch_array

from cvm_monai.knobs import DEFAULTS, Centre, Combination, Contrast, MeansRule, SolverName
from cvm_monai.variational.chan_vese import Array
from cvm_monai.variational.contrast import normalise
from cvm_monai.variational.evidence import ContrastEvidence
from cvm_monai.variational.result import Solution
from cvm_monai.variational.settings import Settings
from cvm_monai.variational.solve import solve


@dataclass(frozen=True)
class Segmentation:
    """The pseudo-label of one image.

    Attributes:
        u: (H, W) float32 in [0, 1]; None where no map gave two phases, so that there is no pseudo-label.
        contrast: the maps that were solved, of the features' kind and on their device: (1, H, W), or (P, H, W), one for
            each in-target point, where the combination is `mean`.
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
    eta: float = DEFAULTS["eta"],
    combination: Combination = DEFAULTS["combination"],
    contrast: Contrast = DEFAULTS["contrast"],
    centre: Centre = DEFAULTS["centre"],
    discriminant: float = DEFAULTS["discriminant"],
    method: SolverName = DEFAULTS["solver"],
    lam: float = DEFAULTS["lam"],
    iterations: int = DEFAULTS["iterations"],
    tolerance: float = Settings.tolerance,
    means: MeansRule = Settings.means,
) -> Segmentation:
    """Segment an image from its features and points: evidence, one solve for each of its maps, their mean.

    u = N(sum_p u_p / |P|) (Eq. 7) over the maps whose solve ended with two phases. The defaults are those of the
    bundle's training, whose u this is; the paper's are `combination="mean"`, `contrast="one_sided"`, `centre="none"`,
    `discriminant=0`, `method="aos"`, and `lam=2`, `iterations=5` of its released script.

    Args:
        features: (C, H, W), NumPy or torch; any network's.
        in_points: (P, 2) integer (row, column) on the feature map.
        out_points: (Q, 2) likewise.
        eta, combination, contrast, centre, discriminant: see `ContrastEvidence`; `dataset` and `both` need the mean
            over a data set, which is not available here.
        method, lam, iterations, tolerance, means: see `solve`.

    Raises:
        CvmError: as `ContrastEvidence` and `solve`.

    Example:
        >>> import cvm_monai as cvm, numpy as np
        >>> features = np.zeros((2, 16, 16), dtype=np.float32)
        >>> features[0, :, :8], features[1, :, 8:] = 1, 1
        >>> u = cvm.segment(features, np.array([[4, 3]]), np.array([[12, 12]])).u
        >>> bool(u[:, :7].min() > 0.5 > u[:, 9:].max())
        True
    """
    evidence = ContrastEvidence(eta, combination, contrast, centre, discriminant)
    z = evidence.maps(features, in_points, out_points)
    z = z.detach() if is_torch_array(z) else z
    solution = solve(z, method=method, lam=lam, iterations=iterations, tolerance=tolerance, means=means)
    return Segmentation(u=average(solution), contrast=z, solution=solution)


def average(solution: Solution) -> np.ndarray | None:
    """Compute the normalised mean of the usable u_p (P, H, W) (Eq. 7), NumPy float32; None if none is usable."""
    usable = [index for index, entry in enumerate(solution.status) if entry.usable]
    if not usable:
        return None
    mean = normalise(solution.u[usable].mean(0))
    return np.asarray(mean.cpu() if is_torch_array(mean) else mean, dtype=np.float32)
