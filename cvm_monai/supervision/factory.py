"""Create supervisions by name: the only list of methods, and the constants of each."""

from typing import Any, get_args

from cvm_monai.errors import CvmError
from cvm_monai.knobs import SupervisionName
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.contrast_map import ContrastMap
from cvm_monai.supervision.crf import CrfRegularised
from cvm_monai.supervision.cvm import ContrastVariational
from cvm_monai.supervision.direct_variational import DirectVariational
from cvm_monai.supervision.dual_branch import DualBranch
from cvm_monai.supervision.frozen_cvm import FrozenContrastVariational
from cvm_monai.supervision.full import FullSupervision
from cvm_monai.supervision.mixmatch import MixMatch
from cvm_monai.supervision.partial_ce import PartialCrossEntropy
from cvm_monai.supervision.peng import CosineFisher
from cvm_monai.supervision.strong_partial_ce import StrongPartialCrossEntropy
from cvm_monai.supervision.uncertainty_aware_mean_teacher import UncertaintyAwareMeanTeacher

METHODS: dict[str, type[Supervision]] = {
    "partial_ce": PartialCrossEntropy,
    "cvm": ContrastVariational,
    "full": FullSupervision,
    "contrast_map": ContrastMap,
    "direct_variational": DirectVariational,
    "crf": CrfRegularised,
    "peng": CosineFisher,
    "mixmatch": MixMatch,
    "uncertainty_aware_mean_teacher": UncertaintyAwareMeanTeacher,
    "dual_branch": DualBranch,
    "strong_partial_ce": StrongPartialCrossEntropy,
    "frozen_cvm": FrozenContrastVariational,
}


def build_supervision(
    name: SupervisionName, *, constants: dict[str, dict[str, Any]] | None = None, classes: int = 2
) -> Supervision:
    """Create a supervision; of `constants`, {name: keyword arguments}, only the entry of this name is used.

    Args:
        classes: number of classes of the network, background included.

    Raises:
        CvmError: an unknown name, a two-class method for more classes, or invalid constants of the method.
    """
    check_classes(name, classes)
    return METHODS[name](**(constants or {}).get(name, {}))


def check_classes(name: str, classes: int) -> None:
    """Check that a method exists and supports this number of classes.

    Raises:
        CvmError: the method does not; the message names those that do.
    """
    if name not in METHODS:
        raise CvmError(f"supervision must be one of {get_args(SupervisionName)}, got {name!r}")
    if classes > 2 and not METHODS[name].many_classes:
        able = ", ".join(other for other, method in METHODS.items() if method.many_classes)
        raise CvmError(f"supervision {name} supports two classes only and the data have {classes}: use one of {able}")
