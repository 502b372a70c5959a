"""Haematoxylin and eosin: how a patient's slide is stained, and from stain amounts to RGB by the Beer-Lambert law."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cvm_monai.data.stain import EOSIN, HAEMATOXYLIN

__all__ = ["Patient", "draw_patient", "to_rgb"]

_HAEMATOXYLIN = np.array([HAEMATOXYLIN, [0.56, 0.72, 0.41]])
_EOSIN = np.array([EOSIN, [0.22, 0.80, 0.56]])
"""Optical densities in R, G, B at the two ends between which patients vary (Ruifrok and Johnston; Macenko et al.)."""

_GLASS = np.array([0.965, 0.955, 0.960])
"""Light that passes where there is no tissue."""


@dataclass(frozen=True)
class Patient:
    """What the cases of one patient share.

    ``scale`` multiplies every length (0.8 to 1.25) and so divides ``mpp``, the micrometres per pixel; ``haematoxylin``
    and ``eosin`` are the optical densities (R, G, B) of a unit of each stain; ``basophilia`` (0 to 1) moves the
    cytoplasm of target cells from pink to violet; ``grade`` (0 to 1) makes their nuclei larger and more unequal;
    ``blur`` (pixels) and ``noise`` (grey levels) belong to the scanner.
    """

    patient_id: str
    scale: float
    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    basophilia: float
    grade: float
    blur: float
    noise: float

    @property
    def mpp(self) -> float:
        """Micrometres per pixel, one at scale 1."""
        return 1.0 / self.scale


def _stain(ends: np.ndarray, strength: float, rng: np.random.Generator) -> tuple[float, float, float]:
    hue = rng.uniform()
    vector = (1 - hue) * ends[0] + hue * ends[1] + rng.normal(0, 0.02, 3)
    vector = np.clip(vector, 0.02, None)
    red, green, blue = strength * vector / np.linalg.norm(vector)
    return float(red), float(green), float(blue)


def draw_patient(patient_id: str, rng: np.random.Generator) -> Patient:
    """A patient whose stains, hue, magnification and scanner differ from the next one's."""
    return Patient(
        patient_id=patient_id,
        scale=float(rng.uniform(0.8, 1.25)),
        haematoxylin=_stain(_HAEMATOXYLIN, rng.uniform(0.85, 1.2), rng),
        eosin=_stain(_EOSIN, rng.uniform(0.75, 1.25), rng),
        basophilia=float(rng.uniform(0, 1)),
        grade=float(rng.uniform(0, 1)),
        blur=float(rng.uniform(0.45, 0.7)),
        noise=float(rng.uniform(1.5, 3.0)),
    )


def to_rgb(
    haematoxylin: np.ndarray, eosin: np.ndarray, pigment: np.ndarray, patient: Patient, rng: np.random.Generator
) -> np.ndarray:
    """Stain amounts (H, W) and the optical density of other pigments (H, W, 3) as an image (H, W, 3), uint8.

    The light that passes is exp(-optical density); the scanner then blurs it and adds noise.
    """
    density = haematoxylin[..., None] * np.array(patient.haematoxylin) + eosin[..., None] * np.array(patient.eosin)
    light = _GLASS * np.exp(-(density + pigment))
    light = ndimage.gaussian_filter(light, (patient.blur, patient.blur, 0))
    grain = rng.normal(0, patient.noise, light.shape[:2])[..., None] + rng.normal(0, 0.5 * patient.noise, light.shape)
    return np.clip(np.round(255 * light + grain), 0, 255).astype(np.uint8)
