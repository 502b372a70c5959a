"""Losses as functions of logits, torch only."""

from cvm_monai.losses.consistency import masked_consistency, predictive_entropy
from cvm_monai.losses.partial_cross_entropy import partial_cross_entropy
from cvm_monai.losses.pseudo_label_dice import mixed_pseudo_label, pseudo_label_dice
from cvm_monai.losses.soft_targets import brier, sharpen, soft_cross_entropy
from cvm_monai.losses.weighted_kl import entropy_weight, pixel_entropy, uncertainty_weighted_kl

__all__ = [
    "brier",
    "entropy_weight",
    "masked_consistency",
    "mixed_pseudo_label",
    "partial_cross_entropy",
    "pixel_entropy",
    "predictive_entropy",
    "pseudo_label_dice",
    "sharpen",
    "soft_cross_entropy",
    "uncertainty_weighted_kl",
]
