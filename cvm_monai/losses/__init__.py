"""Losses as functions of logits, torch only."""

from cvm_monai.losses.crf import bilateral_sum, crf_regularisation, dense_crf
from cvm_monai.losses.fisher import cosine_pseudo_labels, fisher_loss, unit_vectors
from cvm_monai.losses.partial_cross_entropy import partial_cross_entropy
from cvm_monai.losses.weighted_kl import entropy_weight, pixel_entropy, uncertainty_weighted_kl

__all__ = [
    "bilateral_sum",
    "cosine_pseudo_labels",
    "crf_regularisation",
    "dense_crf",
    "entropy_weight",
    "fisher_loss",
    "partial_cross_entropy",
    "pixel_entropy",
    "uncertainty_weighted_kl",
    "unit_vectors",
]
