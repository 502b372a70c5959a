"""Methods in words, for tables and figures."""

from collections.abc import Mapping

TITLES: Mapping[str, str] = {
    "partial_ce": "Partial CE",
    "mixmatch": "MixMatch",
    "uncertainty_aware_mean_teacher": "UA-MT",
    "crf": "CRF loss",
    "dual_branch": "Dual branch",
    "peng": "Peng et al.",
    "direct_variational": "Direct variational",
    "contrast_map": "Contrast map",
    "cvm": "CVM",
    "full": "Full supervision",
}


def title(arm: str) -> str:
    """The method's name in words; a method without an entry loses its underscores."""
    return TITLES.get(arm, arm.replace("_", " "))
