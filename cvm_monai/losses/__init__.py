"""Losses as functions of logits, torch only."""

from cvm_monai.losses.partial_cross_entropy import partial_cross_entropy
from cvm_monai.losses.weighted_kl import entropy_weight, pixel_entropy, uncertainty_weighted_kl

__all__ = ["entropy_weight", "partial_cross_entropy", "pixel_entropy", "uncertainty_weighted_kl"]
