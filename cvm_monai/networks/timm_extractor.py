"""A network of the library timm by name, such as a vision transformer, as an extractor of feature maps."""

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.networks.weights import read_state

PREFIX = "timm:"
"""What the name of such an extractor begins with, in place of a path."""
SEED = 0
"""Of random weights: a name without a file of weights means the same network in every process and every run."""


class TimmExtractor(nn.Module):
    """(B, 3, H, W), normalised, to the last block's features (B, C, H / p, W / p), p the patch size or the stride.

    The tokens of a transformer become a map again; class and register tokens are left out. Its position embeddings
    are resampled to the image (timm's `dynamic_img_size`).

    Args:
        name: of timm's list, without `timm:`; what follows a dot (the tag of published weights) is passed over.
        weights: local file of its state dict, alone or under "state_dict" or "model", read with `weights_only=True`;
            a classifier in it is passed over. None: random weights, the same each time, with a warning. Nothing is
            ever downloaded.

    Attributes:
        patch: side of a patch in pixels, which must divide the sides of an image; 1 where there are none.

    Raises:
        ValueError: timm is missing or does not start, an unknown name, a network without feature maps, or a file that
            does not fit.
    """

    def __init__(self, name: str, weights: str | PathLike[str] | None = None) -> None:
        super().__init__()
        self.model: Any = _create(_timm(), name)
        if weights is None:
            warnings.warn(
                f"the extractor {PREFIX}{name} has random weights: give the file of its weights by --extractor_weights",
                stacklevel=2,
            )
        else:
            _load(self.model, name, Path(weights))
        size = getattr(getattr(self.model, "patch_embed", None), "patch_size", 1)
        self.patch = int(size if isinstance(size, int) else max(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: list[torch.Tensor] = self.model.forward_intermediates(
            x, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return maps[-1]


def is_timm(path: object) -> bool:
    """Whether an extractor is given as the name of a network of timm."""
    return isinstance(path, str) and path.startswith(PREFIX)


def checked_name(path: str) -> str:
    """The name in `timm:NAME`, known to timm.

    Raises:
        ValueError: timm is missing or does not start, or an unknown name; the three nearest are named.
    """
    name, timm = path.removeprefix(PREFIX), _timm()
    if not timm.is_model(name):
        near = get_close_matches(name.partition(".")[0], timm.list_models(), n=3, cutoff=0.0)
        raise ValueError(f"timm {timm.__version__} has no network {name!r}: did you mean {', '.join(near)}?")
    return name


def timm_version() -> str:
    """Of timm, which is installed."""
    return str(_timm().__version__)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        reason = "is not installed" if error.name == "timm" else f"cannot be imported ({error})"
        raise ValueError(
            f"an extractor timm:NAME needs timm, which {reason}: pip install 'cvm-monai[vit]', or give a file"
        ) from error
    except RuntimeError as error:  # torchvision of another torch, or of another kind of it
        raise ValueError(
            f"timm does not start ({error}): install a torchvision of the same index and for the same version as torch"
        ) from error
    return timm


def _create(timm: Any, name: str) -> nn.Module:
    """The network with random weights, without a classifier; the generator of random numbers stays as it was."""
    checked_name(PREFIX + name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            model = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except TypeError:  # a network without position embeddings does not know that option
            model = timm.create_model(name, pretrained=False, num_classes=0)
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(f"timm's network {name} gives no feature maps (forward_intermediates): take another one")
    network: nn.Module = model
    return network


def _load(model: nn.Module, name: str, path: Path) -> None:
    """Fill the network; only a classifier may be left over."""
    state, expected = read_state(path), model.state_dict()
    classifiers = _classifiers(model)
    extra = [key for key in state if key not in expected and not key.startswith(classifiers)]
    unfit = [key for key in expected if key not in state or state[key].shape != expected[key].shape] + extra
    if unfit:
        raise ValueError(
            f"the weights in {path} are not those of timm's {name}: {len(unfit)} are missing, of another shape or "
            f"unknown, such as {unfit[0]}"
        )
    model.load_state_dict({key: state[key] for key in expected})


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """What the keys of a classifier begin with."""
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    found = config.get("classifier") if isinstance(config, Mapping) else getattr(config, "classifier", None)
    names = [found] if isinstance(found, str) else list(found or ())
    return tuple(f"{name}." for name in [*names, "head"])
