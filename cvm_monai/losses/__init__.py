"""Losses as functions of logits, in torch only."""

from cvm_monai.losses.categorical_kl import categorical_weight, categorical_weighted_kl
from cvm_monai.losses.consistency import masked_consistency, predictive_entropy
from cvm_monai.losses.crf import bilateral_sum, crf_regularisation, dense_crf
from cvm_monai.losses.fisher import cosine_pseudo_labels, fisher_loss, unit_vectors
from cvm_monai.losses.partial_cross_entropy import partial_cross_entropy
from cvm_monai.losses.partial_dice import partial_dice
from cvm_monai.losses.pseudo_label_dice import mixed_pseudo_label, pseudo_label_dice
from cvm_monai.losses.soft_targets import brier, sharpen, soft_cross_entropy
from cvm_monai.losses.thresholded_cross_entropy import thresholded_cross_entropy
from cvm_monai.losses.weighted_kl import entropy_weight, pixel_entropy, uncertainty_weighted_kl

__all__ = [
    "bilateral_sum",
    "brier",
    "categorical_weight",
    "categorical_weighted_kl",
    "cosine_pseudo_labels",
    "crf_regularisation",
    "dense_crf",
    "entropy_weight",
    "fisher_loss",
    "masked_consistency",
    "mixed_pseudo_label",
    "partial_cross_entropy",
    "partial_dice",
    "pixel_entropy",
    "predictive_entropy",
    "pseudo_label_dice",
    "sharpen",
    "soft_cross_entropy",
    "thresholded_cross_entropy",
    "uncertainty_weighted_kl",
    "unit_vectors",
]
