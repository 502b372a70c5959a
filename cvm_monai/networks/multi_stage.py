"""Features of a large image patch by patch, and their gradients by multi-stage back-propagation (Section 4.1)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import get_device_states, set_device_states

Extractor = Callable[[torch.Tensor], torch.Tensor]
"""(B, C, H, W) to features (B, D, H / stride, W / stride), H and W multiples of the stride."""


@dataclass(frozen=True)
class Patch:
    """Slices of one patch: what is read of the image, what is kept of its features, and its place in the whole map.

    Each is an index of the last two axes, rows and columns.
    """

    read: tuple[slice, slice]
    keep: tuple[slice, slice]
    place: tuple[slice, slice]


def plan_patches(height: int, width: int, *, stride: int, patch_size: int, halo: int) -> list[Patch]:
    """Plan patches whose kept parts cover an image exactly once; all positions are multiples of `stride`.

    Each side is cut into the fewest parts of at most `patch_size`, as equal as possible. Each patch is read with `halo`
    more pixels on every side, up to the image's border.

    Args:
        height, width: of the image, multiples of `stride`.
        patch_size: larger patches take more memory and repeat less of the halo; a multiple of `stride`.
        halo: see `multi_stage`; a multiple of `stride`.
    """
    rows, columns = (
        _cut(side, stride=stride, patch_size=patch_size, halo=halo) for side in (height // stride, width // stride)
    )
    return [Patch(*zip(row, column, strict=True)) for row, column in product(rows, columns)]


def _cut(cells: int, *, stride: int, patch_size: int, halo: int) -> list[tuple[slice, slice, slice]]:
    """Cut one axis of `cells` features: the slices that are read, kept and written to."""
    count, margin = -(-cells * stride // patch_size), halo // stride
    cuts = [cells * number // count for number in range(count + 1)]
    parts = []
    for begin, end in pairwise(cuts):
        first, last = max(0, begin - margin), min(cells, end + margin)
        parts.append((slice(first * stride, last * stride), slice(begin - first, end - first), slice(begin, end)))
    return parts


def in_one_graph(x: torch.Tensor, extractor: Extractor, patches: Sequence[Patch]) -> torch.Tensor:
    """Compute the features of all patches as one map, by autograd with all activations held; the reference."""
    maps: torch.Tensor | None = None
    for patch in patches:
        kept = extractor(x[(..., *patch.read)])[(..., *patch.keep)]
        if maps is None:
            maps = _empty_map(kept, patches)
        maps[(..., *patch.place)] = kept
    assert maps is not None
    return maps


def multi_stage(x: torch.Tensor, extractor: nn.Module, patches: Sequence[Patch]) -> torch.Tensor:
    """Compute features and gradients of `in_one_graph`, holding the activations of one patch at a time.

    Forward: every patch without a graph. Backward: each patch's features again, with a graph, through which their
    gradient is propagated; the gradients of the parameters are summed over the patches. The
    parameters are inputs of the operation, so that hooks on them (`DistributedDataParallel`) see one gradient each.
    The second pass uses the same random numbers and the same autocast, and does not update running statistics.

    With a halo of at least the extractor's reach and a normalisation without batch statistics, the result equals the
    extractor's for the whole image. With batch statistics it differs: they are those of each patch.

    Args:
        x: (B, C, H, W).
        extractor: any module of the form `Extractor`. Its parameters must not change before the backward pass.
        patches: of `plan_patches` for H, W and the extractor's stride.
    """
    result: torch.Tensor = _MultiStage.apply(x, extractor, patches, *_learning(extractor))
    return result


class _MultiStage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, extractor: nn.Module, patches: Sequence[Patch], *parameters: torch.Tensor
    ) -> torch.Tensor:
        ctx.extractor, ctx.patches = extractor, patches
        ctx.autocast = _autocast_state(x.device.type)
        ctx.save_for_backward(x, *parameters)
        ctx.random = []

        def noted(part: torch.Tensor) -> torch.Tensor:
            if any(ctx.needs_input_grad):
                ctx.random.append((torch.get_rng_state(), get_device_states(part)))
            result: torch.Tensor = extractor(part)
            return result

        # A converted weight in autocast's cache would have no gradient in later uses: the cache is off.
        with torch.autocast(**{**ctx.autocast, "cache_enabled": False}):
            return in_one_graph(x, noted, patches)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors  # raises if one has changed since
        of_image = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for patch, state in zip(ctx.patches, ctx.random, strict=True):
            part = x[(..., *patch.read)].detach().requires_grad_(of_image is not None)
            with torch.enable_grad(), torch.autocast(**ctx.autocast), _second_pass(ctx.extractor, state, part):
                kept = ctx.extractor(part)[(..., *patch.keep)]
            inputs = parameters if of_image is None else [part, *parameters]
            found = list(torch.autograd.grad(kept, inputs, gradient[(..., *patch.place)], allow_unused=True))
            if of_image is not None:
                of_part = found.pop(0)
                if of_part is not None:
                    of_image[(..., *patch.read)] += of_part
            for total, one in zip(sums, found, strict=True):
                if one is not None:
                    total += one
            del kept, found  # free the graph of this patch before the next is built
        return of_image, None, None, *sums


@contextmanager
def unchanged_statistics(module: nn.Module) -> Iterator[None]:
    """Let normalisations compute as usual without updating their running statistics, for a second pass."""
    norms = [part for part in module.modules() if isinstance(part, _NormBase) and part.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


@contextmanager
def _second_pass(module: nn.Module, state: tuple[torch.Tensor, Any], part: torch.Tensor) -> Iterator[None]:
    """Restore the random generators of `state` for a block, and those of now after it; statistics are not updated."""
    on_cpu, (devices, states) = state
    kind = part.device.type if devices else "cuda"
    with torch.random.fork_rng(devices, device_type=kind), unchanged_statistics(module):
        torch.set_rng_state(on_cpu)
        set_device_states(devices, states, device_type=kind)
        yield


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _autocast_state(device: str) -> dict[str, Any]:
    return {
        "device_type": device,
        "enabled": torch.is_autocast_enabled(device),
        "dtype": torch.get_autocast_dtype(device),
        "cache_enabled": torch.is_autocast_cache_enabled(),
    }


def _empty_map(kept: torch.Tensor, patches: Sequence[Patch]) -> torch.Tensor:
    rows, columns = (max(patch.place[axis].stop for patch in patches) for axis in (0, 1))
    return kept.new_empty(*kept.shape[:2], rows, columns)
