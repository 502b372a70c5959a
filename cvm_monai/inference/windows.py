"""A network run over an image of any size: in one pass where it fits the window, else in overlapping windows."""

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SlidingWindowInferer
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.knobs import SLIDE_DEFAULTS

GRID = 32
"""Windows begin at multiples of this, so that every network halves them as it would halve the whole image."""
MINIMUM = 64
STITCH_ON_CPU = 4096**2


class WindowInferer(Inferer):
    """(1, C, H, W) to the network's logits of the whole image, at the network's own output size.

    An image whose sides are at most `window` goes through in one pass. A larger one is padded at its far borders to a
    multiple of 32 by repeating its last pixels, cut into windows that begin at multiples of 32, and the logits are
    blended by a Gaussian (MONAI's `SlidingWindowInferer`); networks with a coarser output (1/16) are blended at that
    output. Away from the windows' borders this is what one pass over the whole image gives, up to what the network
    sees beyond a window.

    Args:
        window: side in pixels, a multiple of 32 from 64. Raising it costs memory (for a million pixels 1 GB with
            `resnet34_unet`, 0.15 GB with `two_component`) and shows the network more context, of which `two_component`
            uses most (its coarsest pixel covers 256); 256 to 4096.
        overlap: part of a window that its neighbour repeats, rounded so that windows begin at multiples of 32.
            Raising it makes seams fainter and the work longer, by 1 / (1 - overlap)^2; 0 to 0.75.

    Raises:
        CvmError: a window or an overlap out of its range.
    """

    def __init__(self, *, window: int = SLIDE_DEFAULTS["window"], overlap: float = SLIDE_DEFAULTS["overlap"]) -> None:
        super().__init__()
        if not isinstance(window, int) or window < MINIMUM or window % GRID:
            raise CvmError(f"window must be a multiple of {GRID} from {MINIMUM} px, got {window!r}")
        if not isinstance(overlap, int | float) or not 0 <= overlap <= 0.75:
            raise CvmError(f"overlap must lie in [0, 0.75], got {overlap!r}")
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
        logits = inferer(padded, network, *args, **kwargs)
        assert isinstance(logits, torch.Tensor)
        stride = padded.shape[-1] // logits.shape[-1]
        return logits[..., : -(-height // stride), : -(-width // stride)]

    def _exact_overlap(self) -> float:
        """The overlap with which MONAI steps by a multiple of 32 (it rounds down: half a pixel guards against 63.9)."""
        return max(0.0, 1 - (self.step + 0.5) / self.window)
