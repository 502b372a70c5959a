"""Direct variational regularisation (Section 5.3): the variational model smooths the network's own output."""

from typing import ClassVar

import numpy as np
from torch import Tensor

from cvm_monai.supervision.pseudo_labelled import VariationalPseudoLabelled
from cvm_monai.variational import normalise


class DirectVariational(VariationalPseudoLabelled):
    """L = L_pce + weight * L_wkl, with u by the solver of `cvm` on N(y), y the network's probability of the target.

    The paper names the method without formulas; decided here: y is stretched to [0, 1] by its own minimum and maximum
    (N of Eq. 5), so that both phases exist at the start even if y is all above or all below 0.5; loss, renewal rule
    and solver are those of `cvm`. An image whose solve ends with one phase empty gets no pseudo-label, and is counted.

    The constants are those of `VariationalPseudoLabelled`.
    """

    name: ClassVar[str] = "direct_variational"
    title: ClassVar[str] = "Direct variational"
    reads_features = False

    def evidence(
        self, logits: Tensor, features: Tensor, in_points: np.ndarray, out_points: np.ndarray, *, target: int = 1
    ) -> Tensor:
        """Compute N(y) as the one map (1, h, w); features and points are ignored."""
        del features, in_points, out_points
        maps: Tensor = normalise(logits.float().softmax(dim=0)[target : target + 1])
        return maps
