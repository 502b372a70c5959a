"""The phantom: synthetic H&E tissue with exact masks of the target and of novel regions that nobody annotates."""

from cvm_monai.data.phantom.case import PhantomCase, draw_case
from cvm_monai.data.phantom.generate import PHANTOM_CLASSES, PhantomSummary, generate_phantom
from cvm_monai.data.phantom.layout import NOVEL_KINDS, SPARSE_KINDS, NovelKind, SparseKind
from cvm_monai.data.phantom.stain import Patient, draw_patient

__all__ = [
    "NOVEL_KINDS",
    "PHANTOM_CLASSES",
    "SPARSE_KINDS",
    "NovelKind",
    "Patient",
    "PhantomCase",
    "PhantomSummary",
    "SparseKind",
    "draw_case",
    "draw_patient",
    "generate_phantom",
]
