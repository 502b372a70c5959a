"""A network of the library timm by name, such as a vision transformer, as an extractor of feature maps."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.errors import CvmError
from cvm_monai.networks.extractor_names import TIMM, TimmName
from cvm_monai.networks.stages import join_stages
from cvm_monai.networks.timm_weights import checked_name, repository, timm_library, unreachable
from cvm_monai.networks.weights import read_state

SEED = 0
"""Seed of random weights: a name without weights means the same network in every process and every run."""
JOINED = (8, 16, 32)
"""Strides of the stages that are joined, as far as a network has them."""
GRID = 32
"""Sides of an image are multiples of this, or of the next multiple of the patch size."""


class TimmNetwork(nn.Module):
    """Map (B, 3, H, W), normalised, to the intermediate maps (B, C, h, w) of a network of timm.

    Args:
        path: `timm:NAME`, random weights, the same each time, with a warning; `timm:NAME@pretrained`, the published
            ones, see `published_state`.
        weights: local file of a state dict, alone or under "state_dict" or "model", read with `weights_only=True`;
            a classifier in it is ignored. Not together with `@pretrained`.
        pretrained: False starts at random without a warning, for weights that are loaded next; nothing is downloaded.

    Attributes:
        asked: the parts of the name.
        patch: side of a patch in pixels, which must divide the sides of an image; 1 for networks without patches.
        grid: the sides of an image must be multiples of this.

    Raises:
        CvmError: timm is missing or does not start, an unknown name, a network without feature maps, a file that does
            not fit, or weights that cannot be downloaded.
    """

    def __init__(self, path: str, weights: str | PathLike[str] | None = None, *, pretrained: bool = True) -> None:
        super().__init__()
        self.asked = checked_name(path)
        published = self.asked.pretrained and pretrained
        self.model: Any = _create(self.asked, published=published)
        if weights is not None and pretrained:
            _load(self.model, self.asked.name, Path(weights))
        elif pretrained and not published:
            warnings.warn(
                f"the extractor {path} has random weights: give the file of its weights by --extractor_weights, or "
                f"write {TIMM}{self.asked.name}@pretrained",
                stacklevel=2,
            )
        size = getattr(getattr(self.model, "patch_embed", None), "patch_size", 1)
        self.patch = int(size if isinstance(size, int) else max(size))
        self.grid = -(-GRID // self.patch) * self.patch

    def maps(self, x: torch.Tensor, indices: Sequence[int] | int) -> list[torch.Tensor]:
        """Compute the maps of the blocks or stages of these numbers, or the last few; transformers' are normalised."""
        found: list[torch.Tensor] = self.model.forward_intermediates(
            x, indices=indices, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return found

    def numbers_by_stride(self) -> dict[int, int]:
        """Find the number of the last map of each stride, by a trial pass."""
        side, training = 2 * self.grid, self.model.training
        try:
            with torch.no_grad():
                found = self.model.eval().forward_intermediates(
                    torch.zeros(1, 3, side, side), output_fmt="NCHW", intermediates_only=True
                )
        except (RuntimeError, AssertionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise CvmError(f"timm's {self.asked.name} takes no image of {side} x {side} px ({reason})") from error
        finally:
            self.model.train(training)
        return {side // maps.shape[-1]: number for number, maps in enumerate(found) if side % maps.shape[-1] == 0}


class TimmExtractor(TimmNetwork):
    """Map (B, 3, H, W), normalised, to the last block's features (B, C, H / p, W / p), p the patch size or stride.

    The tokens of a transformer are reshaped to a map; class and register tokens are left out. Its position embeddings
    are resampled to the image (timm's `dynamic_img_size`). `timm:NAME@stages` joins the last maps of strides 8, 16 and
    32, as far as a network has them, on the finest of these grids, see `join_stages`.

    Args:
        name: in timm's list, without `timm:`, and the options after it; what follows a dot is the tag of the published
            weights, without effect unless they are asked for.
        weights, pretrained: see `TimmNetwork`.

    Raises:
        CvmError: as `TimmNetwork`, or `@stages` of a network with fewer than two of those strides.
    """

    def __init__(self, name: str, weights: str | PathLike[str] | None = None, *, pretrained: bool = True) -> None:
        super().__init__(TIMM + name, weights, pretrained=pretrained)
        self._numbers: list[int] = []
        if self.asked.stages:
            found = self.numbers_by_stride()
            self._numbers = [found[stride] for stride in JOINED if stride in found]
            if len(self._numbers) < 2:
                strides = ", ".join(map(str, found))
                raise CvmError(f"timm's {self.asked.name} has no stages to join, only stride {strides}: drop @stages")

    def stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps that are joined; without `@stages` the last block's alone."""
        return self.maps(x, self._numbers) if self._numbers else self.maps(x, 1)[-1:]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.stages(x)
        return found[0] if len(found) == 1 else join_stages(found)


def _create(asked: TimmName, *, published: bool) -> nn.Module:
    """Build the network without a classifier; the state of the random generator is kept."""
    timm = timm_library()
    settings: dict[str, Any] = {"num_classes": 0, "pretrained": published}
    if published:
        settings["pretrained_cfg_overlay"] = {"hf_hub_id": repository(asked)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            model = _called(timm.create_model, asked, settings)
        except Exception as error:
            if not published:
                raise
            raise unreachable(asked, error) from error
    if not hasattr(model, "forward_intermediates"):
        raise CvmError(f"timm's network {asked.name} gives no feature maps (forward_intermediates): take another one")
    return model


def _called(create: Any, asked: TimmName, settings: Mapping[str, Any]) -> nn.Module:
    try:
        network: nn.Module = create(asked.name, dynamic_img_size=True, **settings)
    except TypeError:  # a network without position embeddings does not know that option
        network = create(asked.name, **settings)
    return network


def _load(model: nn.Module, name: str, path: Path) -> None:
    """Load weights into the network; only a classifier's may be unused."""
    state, expected = read_state(path), model.state_dict()
    classifiers = _classifiers(model)
    extra = [key for key in state if key not in expected and not key.startswith(classifiers)]
    unfit = [key for key in expected if key not in state or state[key].shape != expected[key].shape] + extra
    if unfit:
        raise CvmError(
            f"the weights in {path} are not those of timm's {name}: {len(unfit)} are missing, of another shape or "
            f"unknown, such as {unfit[0]}"
        )
    model.load_state_dict({key: state[key] for key in expected})


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of a classifier's keys."""
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    found = config.get("classifier") if isinstance(config, Mapping) else getattr(config, "classifier", None)
    names = [found] if isinstance(found, str) else list(found or ())
    return tuple(f"{name}." for name in [*names, "head"])
