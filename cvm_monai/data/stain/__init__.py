"""Stains of H&E images: estimate them, jitter or scale them, normalise them to a training set's."""

from cvm_monai.data.stain.density import DAB, EOSIN, HAEMATOXYLIN, STAINS, concentration_change, restain
from cvm_monai.data.stain.macenko import StainEstimate, estimate_stains
from cvm_monai.data.stain.reinhard import ColourMoments, colour_moments
from cvm_monai.data.stain.target import StainTarget, fit_target, normalise_stain, stain_change
from cvm_monai.data.stain.target_file import TARGET_FILE, read_target, stored_method, stored_target, write_target
from cvm_monai.knobs import StainNormalisation

__all__ = [
    "DAB",
    "EOSIN",
    "HAEMATOXYLIN",
    "STAINS",
    "TARGET_FILE",
    "ColourMoments",
    "StainEstimate",
    "StainNormalisation",
    "StainTarget",
    "colour_moments",
    "concentration_change",
    "estimate_stains",
    "fit_target",
    "normalise_stain",
    "read_target",
    "restain",
    "stain_change",
    "stored_method",
    "stored_target",
    "write_target",
]
