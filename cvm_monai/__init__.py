"""Weakly supervised histopathology segmentation from points by a contrast-based variational model (CVM)."""

__version__ = "0.1.0"
