"""Segment from clicks: features of a region, evidence, and the variational model. Used by every interactive program."""

from cvm_monai.interactive.clicks import COLD, ClickModel, ClickResult, click_evidence, recorded_model, segment_clicks
from cvm_monai.interactive.cold_start import ColdFeatures

__all__ = [
    "COLD",
    "ClickModel",
    "ClickResult",
    "ColdFeatures",
    "click_evidence",
    "recorded_model",
    "segment_clicks",
]
