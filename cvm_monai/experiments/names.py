"""Methods in words, for tables and figures."""

from collections.abc import Iterable, Mapping

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
    "strong_partial_ce": "Strong partial CE (ours)",
    "frozen_linear_probe": "Frozen linear probe (ours)",
    "frozen_cvm": "CVM on frozen features (ours)",
}

OURS: Mapping[str, str] = {
    "strong_partial_ce": "partial Dice beside the partial cross-entropy, and the full augmentation",
    "frozen_linear_probe": "another network: one linear layer on the frozen extractor's features",
    "frozen_cvm": "pseudo-labels from the frozen extractor's features",
}
"""Methods that the paper does not have, and in what they differ from its table."""


def title(arm: str) -> str:
    """The method's name in words; a method without an entry loses its underscores."""
    return TITLES.get(arm, arm.replace("_", " "))


def ours_notes(arms: Iterable[str]) -> list[str]:
    """A sentence about those of the methods that are ours; none where no method is."""
    found = [f"{title(arm)}: {OURS[arm]}" for arm in arms if arm in OURS]
    return [f"Beyond the paper's table, {'; '.join(found)}."] if found else []
