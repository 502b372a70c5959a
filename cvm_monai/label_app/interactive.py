"""Clicks in, segmentation out: the paper's solver as an interactive tool."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cvm_monai.inference import network_input
from cvm_monai.label_app.current import Current
from cvm_monai.label_app.segmented import read_pixels
from cvm_monai.label_app.window import Clicks, Window, working_shape
from cvm_monai.slides import SlideImage
from cvm_monai.supervision.contrast_evidence import ContrastEvidence
from cvm_monai.variational import average, solve

LONGEST = 512
"""Longest side in working px of a region whose features are computed; a larger one is downsampled."""

MAX_SOLVED = 3 * 2**15
"""Pixels of all maps together that are solved; more clicks make each map coarser, so that the answer comes in time."""

KEPT = 4
"""Regions whose features are kept (32 MiB each with the default network)."""


@dataclass(frozen=True)
class Answer:
    """What clicks gave.

    Attributes:
        u: (h, w) float32 in [0, 1] at the working size, the soft segmentation of Eq. 7.
        solved: (height, width) of the maps that were solved.
        statuses: how the solve of each foreground click ended.
        cached: whether the features were there already.
        seconds: wall time.
    """

    u: np.ndarray
    solved: tuple[int, int]
    statuses: tuple[str, ...]
    cached: bool
    seconds: float


class ClickSegmenter:
    """Segments regions by clicks and keeps the features of the last ones. Threads may share it."""

    def __init__(self) -> None:
        self._features: OrderedDict[tuple[object, ...], torch.Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(
        self,
        image: SlideImage,
        window: Window,
        clicks: Clicks,
        *,
        current: Current,
        factor: float,
        eta: float = 0.6,
        lam: float = 0.5,
        iterations: int = 50,
    ) -> Answer:
        """Features of the current network -> contrast maps -> CVM -> u, one solve for each foreground click.

        Args:
            factor: working px of one level-0 pixel.
            eta, lam, iterations: see `contrast_maps` and `solve`. The contrast is that of the network's training.

        Raises:
            ValueError: a tunable out of its range, or clicks that separate nothing (the sentence says why).
        """
        start = time.perf_counter()
        features, cached = self.features(image, window, current=current, factor=factor)
        grid = (int(features.shape[-2]), int(features.shape[-1]))
        inside, outside = (_to_grid(found, window, grid) for found in (clicks.foreground, clicks.background))
        evidence = ContrastEvidence(eta=eta, contrast=current.knobs["contrast"])
        maps = _pooled(evidence.maps(features, inside, outside).numpy(), MAX_SOLVED)
        solution = solve(maps, lam=lam, iterations=iterations)
        u = average(solution)
        statuses = tuple(status.value.split(":")[0] for status in solution.status)
        if u is None:
            reason = solution.status[0].value
            raise ValueError(f"the clicks separate nothing here ({reason}): add clicks, or lower eta")
        shape = working_shape(window, factor=factor, longest=LONGEST)
        return Answer(_resized(u, shape), (u.shape[0], u.shape[1]), statuses, cached, time.perf_counter() - start)

    def features(
        self, image: SlideImage, window: Window, *, current: Current, factor: float
    ) -> tuple[torch.Tensor, bool]:
        """Feature Map 2 (C, h, w) of a window, on the CPU, and whether it was kept from before."""
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
        inputs = network_input(pixels, stain=current.stain, image_mean=mean, image_std=std)
        network: Any = current.network
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        with torch.inference_mode():
            _, found = network.features(inputs[None].to(device))
        features = found[0].float().cpu()
        with self._lock:
            self._features[key] = features
            while len(self._features) > KEPT:
                self._features.popitem(last=False)
        return features, False


def _to_grid(clicks: tuple[tuple[float, float], ...], window: Window, grid: tuple[int, int]) -> np.ndarray:
    """(N, 2) integer (row, column) of clicks: floor(coordinate * map / window)."""
    x, y = np.array(clicks).T
    rows = np.floor((y - window.y) * grid[0] / window.height).astype(np.int64)
    columns = np.floor((x - window.x) * grid[1] / window.width).astype(np.int64)
    return np.stack([np.minimum(rows, grid[0] - 1), np.minimum(columns, grid[1] - 1)], axis=1)


def _pooled(maps: np.ndarray, most: int) -> np.ndarray:
    """(P, H, W) maps averaged over areas until they have at most so many pixels together."""
    shrink = min(1.0, (most / maps.size) ** 0.5)
    if shrink == 1:
        return maps
    size = [max(1, round(side * shrink)) for side in maps.shape[1:]]
    pooled = functional.interpolate(torch.from_numpy(maps)[None], size=size, mode="area")[0]
    return np.asarray(pooled.numpy())


def _resized(u: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """u at another (height, width), bilinearly."""
    if u.shape == shape:
        return u
    resized = functional.interpolate(torch.from_numpy(u)[None, None], size=shape, mode="bilinear", align_corners=False)
    return np.asarray(resized[0, 0].numpy())
