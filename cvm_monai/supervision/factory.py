"""The ways of learning by name: the only list of them, and the constants each one takes."""

from typing import Any, Literal, get_args

from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.contrast_map import ContrastMap
from cvm_monai.supervision.crf import CrfRegularised
from cvm_monai.supervision.cvm import ContrastVariational
from cvm_monai.supervision.direct_variational import DirectVariational
from cvm_monai.supervision.full import FullSupervision
from cvm_monai.supervision.partial_ce import PartialCrossEntropy
from cvm_monai.supervision.peng import CosineFisher

SupervisionName = Literal["partial_ce", "cvm", "full", "contrast_map", "direct_variational", "crf", "peng"]


def build_supervision(name: SupervisionName, *, constants: dict[str, dict[str, Any]] | None = None) -> Supervision:
    """Make a supervision; of `constants`, {name: keyword arguments}, only the entry of this name is used.

    Raises:
        ValueError: an unknown name.
    """
    methods: dict[str, type[Supervision]] = {
        "partial_ce": PartialCrossEntropy,
        "cvm": ContrastVariational,
        "full": FullSupervision,
        "contrast_map": ContrastMap,
        "direct_variational": DirectVariational,
        "crf": CrfRegularised,
        "peng": CosineFisher,
    }
    if name not in methods:
        raise ValueError(f"supervision must be one of {get_args(SupervisionName)}, got {name!r}")
    return methods[name](**(constants or {}).get(name, {}))
