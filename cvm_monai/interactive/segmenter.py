"""Segment regions from clicks by the paper's solver, and cache their features."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.inference import network_input
from cvm_monai.interactive import COLD, ColdFeatures, recorded_model, segment_clicks
from cvm_monai.interactive.cold_start import GRID
from cvm_monai.interactive.current import ActiveModel
from cvm_monai.interactive.window import Clicks, Window, read_pixels, working_shape
from cvm_monai.networks.centred_probe import CentredProbe
from cvm_monai.slides import SlideImage

LONGEST = 512
"""Longest side in working px of a region whose features are computed; a larger one is downsampled."""

FINEST = 192
"""Longest side of the grid of features; pretrained features do not resolve finer borders."""

KEPT = 4
"""Number of regions whose features are kept (up to 80 MiB each)."""


@dataclass(frozen=True)
class ClickSegmentation:
    """The soft segmentation from clicks, and how it was solved.

    Attributes:
        u: (h, w) float32 in [0, 1] at the working size, the soft segmentation of Eq. 7.
        solved: (height, width) of the solved maps.
        statuses: the solver's status for each map.
        cached: whether the features were in the cache.
        seconds: wall time.
    """

    u: np.ndarray
    solved: tuple[int, int]
    statuses: tuple[str, ...]
    cached: bool
    seconds: float


@dataclass(frozen=True)
class RegionFeatures:
    """Cached features of a region.

    Attributes:
        values: (C, h, w) float32, on the CPU.
        parts: channels of each stage, see `centred`.
        probabilities: (classes - 1, h, w) of the classes from 1 by the trained network; None without one.
        spacing: input pixels from one feature vector to the next, see `segment_clicks`.
    """

    values: torch.Tensor
    parts: tuple[int, ...] | None
    probabilities: torch.Tensor | None
    spacing: float

    def probability(self, label: int | None) -> torch.Tensor | None:
        """Return the probability (h, w) of a class, or of all but the background; None without a trained network."""
        if self.probabilities is None:
            return None
        return self.probabilities.sum(dim=0) if label is None else self.probabilities[label - 1]


class ClickSegmenter:
    """Segment regions by clicks and keep the features of the last ones. Threads may share it."""

    def __init__(self) -> None:
        self._features: OrderedDict[tuple[object, ...], RegionFeatures] = OrderedDict()
        self._lock = threading.Lock()
        self._pretrained: ColdFeatures | None = None

    def __call__(
        self,
        image: SlideImage,
        window: Window,
        clicks: Clicks,
        *,
        current: ActiveModel,
        factor: float,
        chosen: Mapping[str, Any] = MappingProxyType({}),
        label: int | None = None,
    ) -> ClickSegmentation:
        """Segment a region: features of the current network, evidence, variational model, u; see `segment_clicks`.

        Args:
            factor: working px of one level-0 pixel.
            chosen: knobs of the model in the request; the others are those of the network's training, or of `COLD`
                where none is trained.
            label: class of the target, whose probability by the network the clicks correct; None: all but background.

        Raises:
            CvmError: a knob out of range, or clicks that give no segmentation (the message says why).
        """
        start = time.perf_counter()
        found, cached = self.features(image, window, current=current, factor=factor)
        grid = (int(found.values.shape[-2]), int(found.values.shape[-1]))
        inside, outside = (_to_grid(part, window, grid) for part in (clicks.foreground, clicks.background))
        model = replace(recorded_model(current.knobs) if current.trained else COLD, **chosen)
        result = segment_clicks(
            found.values,
            inside,
            outside,
            model=model,
            parts=found.parts,
            probability=found.probability(label),
            spacing=found.spacing,
        )
        if result.u is None:
            raise CvmError(
                f"the clicks in and outside the target cannot be told apart ({result.reason}): add clicks, or lower eta"
            )
        u = result.u
        shape = working_shape(window, factor=factor, longest=LONGEST)
        return ClickSegmentation(
            _resized(u, shape), (u.shape[0], u.shape[1]), result.statuses, cached, time.perf_counter() - start
        )

    def features(
        self, image: SlideImage, window: Window, *, current: ActiveModel, factor: float
    ) -> tuple[RegionFeatures, bool]:
        """Return the features for clicks in a window, and whether they were in the cache."""
        shape = working_shape(window, factor=factor, longest=LONGEST)
        facts = image.path.stat()
        key = (str(image.path), facts.st_mtime_ns, facts.st_size, window, shape, current.key)
        with self._lock:
            if key in self._features:
                self._features.move_to_end(key)
                return self._features[key], True
        knobs = current.knobs
        pixels = read_pixels(image, window, shape)
        mean, std = knobs["image_mean"], knobs["image_std"]
        own = network_input(pixels, stain=current.stain, image_mean=mean, image_std=std)[None]
        features = self._region(current.network, own, network_input(pixels, stain=current.stain)[None])
        with self._lock:
            self._features[key] = features
            while len(self._features) > KEPT:
                self._features.popitem(last=False)
        return features, False

    @torch.no_grad()
    def _region(self, network: Any, inputs: torch.Tensor, usual: torch.Tensor) -> RegionFeatures:
        """Compute the features of `ColdFeatures`, or of a trained network with its probability and pretrained features.

        Args:
            inputs: normalised for the network.
            usual: the same pixels, normalised by ImageNet's mean and deviation.
        """
        device = next((tensor.device for tensor in (*network.parameters(), *network.buffers())), torch.device("cpu"))
        inputs, usual = inputs.to(device), usual.to(device)
        if isinstance(network, ColdFeatures):
            return RegionFeatures(network(usual)[0].float().cpu(), network.parts, None, float(GRID))
        if self._pretrained is None:
            self._pretrained = ColdFeatures().eval()
        if isinstance(network, CentredProbe):  # its features are the pretrained ones, which follow below
            logits, own = network(inputs), inputs.new_zeros((1, 0, *inputs.shape[-2:]))
        else:
            logits, own = network.features(inputs)
        probabilities = torch.softmax(logits[0].float(), dim=0)[1:]
        size = _at_most(own.shape[-2:], FINEST)
        maps = torch.cat([own.float(), probabilities[None]], dim=1)
        if size != tuple(own.shape[-2:]):
            maps = functional.adaptive_avg_pool2d(maps, size)
        width = own.shape[1]
        values = torch.cat([maps[:, :width], self._pretrained.to(device).on_grid(usual, size)], dim=1)
        parts = tuple(part for part in (width, *self._pretrained.parts) if part)
        spacing = inputs.shape[-1] / size[1]
        return RegionFeatures(values[0].cpu(), parts, maps[0, width:].cpu(), spacing)


def _at_most(shape: Sequence[int], longest: int) -> tuple[int, int]:
    """Shrink (height, width) in proportion to a longer side of at most so many px."""
    shrink = min(1.0, longest / max(shape))
    return max(1, round(shape[0] * shrink)), max(1, round(shape[1] * shrink))


def _to_grid(clicks: tuple[tuple[float, float], ...], window: Window, grid: tuple[int, int]) -> np.ndarray:
    """Convert clicks to (N, 2) integer (row, column) of the map: floor(coordinate * map / window)."""
    x, y = np.array(clicks).T
    rows = np.floor((y - window.y) * grid[0] / window.height).astype(np.int64)
    columns = np.floor((x - window.x) * grid[1] / window.width).astype(np.int64)
    return np.stack([np.minimum(rows, grid[0] - 1), np.minimum(columns, grid[1] - 1)], axis=1)


def _resized(u: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize u to another (height, width), bilinearly."""
    if u.shape == shape:
        return u
    resized = functional.interpolate(torch.from_numpy(u)[None, None], size=shape, mode="bilinear", align_corners=False)
    return np.asarray(resized[0, 0].numpy())
