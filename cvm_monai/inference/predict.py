"""Compute the probability of each class at each pixel of an image: resample, normalise, run the network.

An image larger than the window is predicted in overlapping windows (`WindowInferer`).
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer, SlidingWindowInferer
from torch import nn
from torch.nn import functional

from cvm_monai.data.stain import StainTarget, normalise_stain
from cvm_monai.data.transforms import resize_image
from cvm_monai.engines.scoring import full_probabilities, full_probability
from cvm_monai.errors import CvmError
from cvm_monai.knobs import SLIDE_DEFAULTS, SLIDES
from cvm_monai.networks.centred_probe import shared_means
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD

logger = logging.getLogger(__name__)

GRID = 32
"""Windows begin at multiples of this, so that the networks' pooling grids agree with those of the whole image."""
STITCH_ON_CPU = 4096**2
"""Number of pixels of an image from which its windows are blended in main memory instead of on the GPU."""


def predict(
    network: nn.Module,
    image: np.ndarray,
    *,
    scale: float = 1.0,
    device: torch.device | str | None = None,
    window: int = SLIDE_DEFAULTS["window"],
    overlap: float = SLIDE_DEFAULTS["overlap"],
    stain: StainTarget | None = None,
    image_mean: Sequence[float] = IMAGENET_MEAN,
    image_std: Sequence[float] = IMAGENET_STD,
) -> np.ndarray:
    """Predict the probability of the target at each pixel, (H, W) float32 in [0, 1]; the mask is `predict(...) > 0.5`.

    The image is resampled by `scale`, normalised, segmented (see `WindowInferer`), and the softmax of the logits is
    resized bilinearly to the image's own size. Any size is accepted; the networks pad small images by repeating the
    border.

    Args:
        network: logits (B, 2, h, w) from (B, 3, H, W); channel 1 is the target. Its training mode is restored.
        image: (H, W, 3) uint8 RGB.
        scale: working size / image size, as in the training: `mpp of the image / mpp of the training`.
        device: to compute on, where the network is moved; None: the device of its weights.
        window: see `WindowInferer`.
        overlap: see `WindowInferer`.
        stain: target of the training's stain normalisation, as `load_stain` reads it; None: without normalisation.
        image_mean: of the training's normalisation, for intensities in [0, 1].
        image_std: likewise.

    Raises:
        CvmError: not a uint8 RGB image, an argument out of range, or a network of more than two classes.

    Example:
        >>> import cvm_monai as cvm
        >>> image = cvm.read_image("data/phantom/images/case_000.png")
        >>> probability = cvm.predict(cvm.load_network("runs/mine"), image)
        >>> probability.shape, bool(0 <= probability.min() <= probability.max() <= 1)
        ((64, 64), True)
    """
    logits = _logits(
        network,
        image,
        scale=scale,
        device=device,
        inferer=WindowInferer(window=window, overlap=overlap),
        stain=stain,
        image_mean=image_mean,
        image_std=image_std,
    )
    if len(logits) != 2:
        raise CvmError(f"the network distinguishes {len(logits)} classes, not two: use predict_classes")
    return full_probability(logits, image.shape[:2])


def predict_classes(
    network: nn.Module,
    image: np.ndarray,
    *,
    scale: float = 1.0,
    device: torch.device | str | None = None,
    window: int = SLIDE_DEFAULTS["window"],
    overlap: float = SLIDE_DEFAULTS["overlap"],
    stain: StainTarget | None = None,
    image_mean: Sequence[float] = IMAGENET_MEAN,
    image_std: Sequence[float] = IMAGENET_STD,
) -> np.ndarray:
    """Predict the probability of each class, (C, H, W) float32; the label image is its `argmax(axis=0)`.

    Arguments and errors as in `predict`, for a network of any number of classes, background first.
    """
    logits = _logits(
        network,
        image,
        scale=scale,
        device=device,
        inferer=WindowInferer(window=window, overlap=overlap),
        stain=stain,
        image_mean=image_mean,
        image_std=image_std,
    )
    return full_probabilities(logits, image.shape[:2])


class WindowInferer(Inferer):
    """Map (1, C, H, W) to the network's logits of the whole image, at the network's output resolution.

    An image whose sides are at most `window` goes through in one pass. A larger one is padded at its far borders to a
    multiple of 32 by repeating its last pixels, cut into windows that begin at multiples of 32, and the logits are
    blended by a Gaussian (MONAI's `SlidingWindowInferer`); networks with a coarser output (1/16) are blended at that
    output. Away from the windows' borders this equals one pass over the whole image, up to the network's context
    beyond a window. A network that subtracts an image's mean subtracts that of the whole image (`shared_means`).

    Args:
        window: side in pixels, a multiple of 32 from 64. Raising it costs memory (1 GB for a million pixels with
            `resnet34_unet`, 0.15 GB with `two_component`) and gives the network more context, which matters most for
            `two_component` (its coarsest pixel covers 256 px); 256 to 4096.
        overlap: fraction of a window that its neighbour overlaps, rounded so that windows begin at multiples of 32.
            Raising it makes seams fainter and the time longer, by 1 / (1 - overlap)^2; 0 to 0.75.

    Raises:
        CvmError: a window or an overlap out of its range.
    """

    def __init__(self, *, window: int = SLIDE_DEFAULTS["window"], overlap: float = SLIDE_DEFAULTS["overlap"]) -> None:
        super().__init__()
        SLIDES["window"].check(window)
        SLIDES["overlap"].check(overlap)
        self.window, self.overlap = window, overlap

    @property
    def step(self) -> int:
        """Pixels from one window to the next, a multiple of 32."""
        return max(1, int(self.window * (1 - self.overlap)) // GRID) * GRID

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Logits (1, classes, h, w)."""
        height, width = inputs.shape[-2:]
        if max(height, width) <= self.window:
            return network(inputs, *args, **kwargs)
        padded = functional.pad(inputs, [0, -width % GRID, 0, -height % GRID], mode="replicate")
        inferer = SlidingWindowInferer(
            roi_size=[min(self.window, side) for side in padded.shape[-2:]],
            overlap=self._exact_overlap(),
            mode="gaussian",
            cpu_thresh=STITCH_ON_CPU,
        )
        with shared_means(network, lambda: self._see(padded, network)):
            logits = inferer(padded, network, *args, **kwargs)
        assert isinstance(logits, torch.Tensor)
        stride = padded.shape[-1] // logits.shape[-1]
        return logits[..., : -(-height // stride), : -(-width // stride)]

    def _see(self, padded: torch.Tensor, network: Callable[..., torch.Tensor]) -> None:
        """Run the network once over each pixel, in windows that do not overlap, for the features' mean."""
        with torch.no_grad():
            for row in padded.split(self.window, dim=-2):
                for part in row.split(self.window, dim=-1):
                    network(part)

    def _exact_overlap(self) -> float:
        """Return the overlap with which MONAI steps by a multiple of 32; half a pixel compensates for its rounding."""
        return max(0.0, 1 - (self.step + 0.5) / self.window)


def _logits(
    network: nn.Module,
    image: np.ndarray,
    *,
    scale: float,
    device: torch.device | str | None,
    inferer: WindowInferer,
    stain: StainTarget | None,
    image_mean: Sequence[float],
    image_std: Sequence[float],
) -> torch.Tensor:
    """(C, h, w), at the network's own output size."""
    batch = network_input(image, scale=scale, stain=stain, image_mean=image_mean, image_std=image_std)[None]
    training = network.training
    if device is None:
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    network.to(device).eval()
    try:
        with torch.no_grad():
            logits = inferer(batch.to(device), network)
    finally:
        network.train(training)
    found: torch.Tensor = logits[0]
    return found


def network_input(
    image: np.ndarray,
    *,
    scale: float = 1.0,
    stain: StainTarget | None = None,
    image_mean: Sequence[float] = IMAGENET_MEAN,
    image_std: Sequence[float] = IMAGENET_STD,
) -> torch.Tensor:
    """Compute a network's input (3, h, w) float32: resampled by `scale`, (intensity / 255 - mean) / std by channel.

    In between, its stains are normalised to the target `stain`, if given; an image with too little tissue keeps its
    stains, with a warning.

    Raises:
        CvmError: not a (H, W, 3) uint8 image, or a scale that is not above 0.

    Example:
        >>> import cvm_monai as cvm
        >>> image = cvm.read_image("data/phantom/images/case_000.png")
        >>> tuple(cvm.network_input(image, scale=0.5).shape)
        (3, 32, 32)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise CvmError(f"an image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    if not scale > 0:
        raise CvmError(f"scale must be greater than 0, got {scale!r}")
    shape = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    resized = np.ascontiguousarray(np.moveaxis(_with_stain(resize_image(image, shape), stain), -1, 0))
    mean, std = (torch.tensor(values, dtype=torch.float32).reshape(3, 1, 1) for values in (image_mean, image_std))
    return (torch.from_numpy(resized).float() / 255 - mean) / std


def _with_stain(image: np.ndarray, stain: StainTarget | None) -> np.ndarray:
    if stain is None:
        return image
    found = normalise_stain(image, stain)
    if found is None:
        logger.warning("an image shows too little stained tissue to be normalised: left as it is")
        return image
    return found


def working_factor(*, scale: float, mpp: float | None, image_mpp: float | None, case_id: str) -> float:
    """Return working size / image size: `scale`, or image_mpp / mpp for a network trained at `mpp` um/px.

    Raises:
        CvmError: the model needs the image's micrometres per pixel, and they are not known.
    """
    if mpp is None:
        return scale
    if image_mpp is None:
        raise CvmError(
            f"the network was trained at {mpp:g} um/px and those of the image {case_id} are not known: give --image_mpp"
        )
    return image_mpp / mpp
