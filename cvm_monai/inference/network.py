"""What a training left behind: its network, and the stains that the network knows."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.data.stain import StainTarget, stored_method, stored_target
from cvm_monai.engines.trained import TrainedKnobs
from cvm_monai.engines.workflow import bundle_root, models_dir
from cvm_monai.networks import build_network
from cvm_monai.networks.state import load_weights


def load_network(
    output_dir: str | PathLike[str],
    *,
    device: torch.device | str = "cpu",
    bundle: str | PathLike[str] | None = None,
    weights: Path | None = None,
) -> nn.Module:
    """The trained network of a training's output folder, in evaluation mode.

    `run.json` says which network it is, `models/model.pt` holds its weights. The scale it was trained at is
    `TrainedKnobs(output_dir)["scale"]` of `cvm_monai.engines`.

    Args:
        bundle: root of the bundle whose default output folder keeps its model in `models/`; None: that which runs, or
            the package's own.
        weights: the file of the weights, where it is known already; None: `model.pt` where a training puts it.

    Raises:
        CvmError: no model in that folder, a damaged file, or weights of another network.
    """
    output = str(output_dir)
    network = network_of(TrainedKnobs(output))
    file = weights or Path(models_dir(bundle_root=_root(bundle), output_dir=output)) / "model.pt"
    return load_weights(network, file, device=device)


def network_of(known: Mapping[str, Any]) -> nn.Module:
    """The network that a training's knobs describe, with random weights.

    Raises:
        CvmError: whatever `build_network` finds.
    """
    return build_network(
        known["network"],
        out_channels=known["classes"],
        channels=known["network_channels"],
        **{name: known[name] for name in ("normalisation", "encoder_norm", "extractor_path", "extractor_weights")},
        pretrained=False,  # the weights of the training hold the extractor's
    )


def load_stain(output_dir: str | PathLike[str], *, bundle: str | PathLike[str] | None = None) -> StainTarget | None:
    """What the images of the network in a training's output folder are normalised to; None: nothing.

    `predict` and `network_input` take it as `stain`; `bundle` as for `load_network`.

    Raises:
        CvmError: the training's target is missing or damaged.
    """
    output = str(output_dir)
    folder = models_dir(bundle_root=_root(bundle), output_dir=output)
    method = TrainedKnobs(output)["stain_normalisation"] or stored_method(folder=folder)
    return stored_target(folder=folder, method=method)


def _root(bundle: str | PathLike[str] | None) -> str:
    return bundle_root() if bundle is None else str(bundle)
