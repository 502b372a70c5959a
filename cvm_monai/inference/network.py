"""Load a trained network from a training's folder, and average over folds and over flips of the image."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.data.stain import StainTarget, stored_method, stored_target
from cvm_monai.engines.workflow import bundle_root, models_dir
from cvm_monai.errors import CvmError
from cvm_monai.networks import build_network
from cvm_monai.networks.state import load_weights
from cvm_monai.runs.folder import TrainedKnobs

VIEWS = 8
"""Number of views: four rotations by 90 degrees, each plain and mirrored."""
SMALLEST = 1e-30
"""Lower bound of a probability before its logarithm is taken."""


def load_network(
    output_dir: str | PathLike[str],
    *,
    device: torch.device | str = "cpu",
    bundle: str | PathLike[str] | None = None,
    weights: Path | None = None,
) -> nn.Module:
    """Load the trained network of a training's output folder, in evaluation mode.

    `run.json` says which network it is, `models/model.pt` holds its weights. The scale it was trained at is
    `TrainedKnobs(output_dir)["scale"]` of `cvm_monai.engines`.

    Args:
        bundle: root of the bundle whose default output folder keeps its model in `models/`; None: the running one, or
            the package's own.
        weights: the file of the weights; None: the training's `model.pt`.

    Raises:
        CvmError: no model in that folder, a damaged file, or weights of another network.

    Example:
        >>> import cvm_monai as cvm
        >>> network = cvm.load_network("runs/mine")
        >>> network.training
        False
    """
    output = str(output_dir)
    network = network_of(TrainedKnobs(output))
    file = weights or Path(models_dir(bundle_root=_root(bundle), output_dir=output)) / "model.pt"
    return load_weights(network, file, device=device)


def network_of(known: Mapping[str, Any]) -> nn.Module:
    """Build the network that a training's knobs describe, with random weights.

    Raises:
        CvmError: whatever `build_network` finds.
    """
    return build_network(
        known["network"],
        out_channels=known["classes"],
        channels=known["network_channels"],
        **{name: known[name] for name in ("normalisation", "encoder_norm", "extractor_path", "extractor_weights")},
        pretrained=False,  # the training's weights include the extractor's
    )


def load_stain(output_dir: str | PathLike[str], *, bundle: str | PathLike[str] | None = None) -> StainTarget | None:
    """Load the stain target of a training's output folder; None where the training did not normalise stains.

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


def average_networks(
    network: nn.Module,
    *,
    ensemble: Sequence[str | PathLike[str]] | None = None,
    flips: bool = False,
    stain: StainTarget | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Average `network` with the networks in other trainings' output folders, and over flips.

    Args:
        network: a trained one, in evaluation mode.
        ensemble: output folders of trainings that saw images at the same scale, such as those of the other folds.
        flips: see `Averaged`.
        stain: target of the stain normalisation for `network`. All networks get the same images: the others must have
            been trained with the same kind of normalisation; this target replaces theirs.
        device: for all of them.

    Raises:
        CvmError: a folder without a model, one whose stains are normalised in another way, or a value of the wrong
            type.
    """
    if isinstance(ensemble, str | PathLike):
        ensemble = [ensemble]
    if not isinstance(flips, bool):
        raise CvmError(f"test_time_flips must be True or False, got {flips!r}")
    for folder in ensemble or ():
        own = load_stain(folder)
        ways = ["none" if one is None else one.method for one in (own, stain)]
        if ways[0] != ways[1]:
            raise CvmError(
                f"--ensemble: {folder} was trained with --stain_normalisation {ways[0]}, not {ways[1]}: leave it out"
            )
    others = [load_network(folder, device=device) for folder in ensemble or ()]
    return Averaged([network, *others], flips=flips).eval()


class Averaged(nn.Module):
    """Map (B, C, H, W) to the logarithm of the mean probability (B, classes, h, w); its softmax is that mean.

    Args:
        networks: give logits (B, classes, h, w) each; the mean is over them. Five take five times the time of one.
        flips: also average over the image's four rotations by 90 degrees, each plain and mirrored: less dependent on
            orientation, steadier at borders, 8 times the time.

    Raises:
        CvmError: no network.
    """

    def __init__(self, networks: Sequence[nn.Module], *, flips: bool = False) -> None:
        super().__init__()
        if not networks:
            raise CvmError("an average needs at least one network")
        self.networks = nn.ModuleList(networks)
        self.views = VIEWS if flips else 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run every network on every view, undo the views, and average."""
        if len(self.networks) * self.views == 1:
            logits: torch.Tensor = self.networks[0](x)
            return logits
        total: torch.Tensor | None = None
        for view in range(self.views):
            seen = turned(x, view)
            for network in self.networks:
                found = turned_back(torch.softmax(network(seen).float(), dim=1), view)
                total = found if total is None else total + found
        assert total is not None
        return torch.log((total / (len(self.networks) * self.views)).clamp_min(SMALLEST))


def turned(x: torch.Tensor, view: int) -> torch.Tensor:
    """Rotate (..., H, W) by `view` % 4 times 90 degrees, mirrored from view 4 on; view 0 is x itself."""
    quarter = torch.rot90(x, view % 4, (-2, -1))
    return quarter.flip(-1) if view >= VIEWS // 2 else quarter


def turned_back(x: torch.Tensor, view: int) -> torch.Tensor:
    """Invert `turned`."""
    straight = x.flip(-1) if view >= VIEWS // 2 else x
    return torch.rot90(straight, -(view % 4), (-2, -1))
