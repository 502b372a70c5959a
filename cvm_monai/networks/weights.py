"""Load encoder weights from a local file in torchvision's layout: ImageNet's or a pathology model's."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.errors import CvmError
from cvm_monai.networks.extractor_names import is_timm

ANCHOR = "layer1.0.conv1.weight"
"""A key that every ResNet34 has: the text before it in a file's key is the file's prefix."""
WRAPPERS = ("state_dict", "model")


def load_encoder_weights(network: nn.Module, path: str | PathLike[str]) -> None:
    """Load a ResNet34 state dict into `network.encoder`, in place.

    Accepted: torchvision's resnet34 keys, alone or under "state_dict" or "model", after any one prefix (`module.`,
    `encoder.`, `backbone.`, ...). Keys that the encoder lacks (`fc.*`, a decoder's) are ignored; the counters
    `num_batches_tracked`, which old files lack, may be missing. The file is read with `weights_only=True`.

    Args:
        network: one with a ResNet34 `encoder`.
        path: a `.pt` or `.pth` file, or `timm:resnet34@pretrained` for those that timm downloads, see
            `published_state`; torchvision's are `timm:resnet34.tv_in1k@pretrained`.

    Raises:
        CvmError: no encoder; a file that is missing or unreadable, holds several encoders, or does not fit; weights
            that cannot be downloaded.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise CvmError(f"{type(network).__name__} has no ResNet34 encoder to load {path} into")
    state = _without_prefix(_published(path) if is_timm(path) else read_state(Path(path)), path)
    expected = encoder.state_dict()
    wanted = [key for key in expected if not key.endswith("num_batches_tracked")]
    missing = [key for key in wanted if key not in state]
    if missing:
        found = len(wanted) - len(missing)
        raise CvmError(
            f"{path} is not a ResNet34: it has {found} of the encoder's {len(wanted)} weights, "
            f"and the first one missing is {missing[0]}"
        )
    for key in wanted:
        if state[key].shape != expected[key].shape:
            raise CvmError(
                f"{path} does not fit the encoder: {key} has shape {tuple(state[key].shape)} "
                f"where {tuple(expected[key].shape)} is needed"
            )
    encoder.load_state_dict({key: state[key] for key in expected if key in state}, strict=False)


def _published(path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """Read the weights that timm publishes; timm is imported only here."""
    from cvm_monai.networks.timm_weights import published_state

    return published_state(str(path))


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file by name."""
    if not path.is_file():
        raise CvmError(f"there is no file of encoder weights at {path}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        raise CvmError(
            f"{path} cannot be read as weights alone (weights_only=True): save the model's state_dict() with torch.save"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise CvmError(f"{path} holds a {type(content).__name__}, not a state dict: save state_dict() with torch.save")
    return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}


def _without_prefix(state: dict[str, torch.Tensor], path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the entries under the prefix of the file's only ResNet, without that prefix."""
    prefixes = sorted(key.removesuffix(ANCHOR) for key in state if key == ANCHOR or key.endswith("." + ANCHOR))
    if len(prefixes) > 1:
        raise CvmError(f"{path} holds several encoders ({', '.join(map(repr, prefixes))}): save the one to use alone")
    prefix = prefixes[0] if prefixes else ""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
