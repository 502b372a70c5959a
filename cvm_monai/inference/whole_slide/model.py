"""A trained network with its um/px, classes and normalisation, for prediction of slides."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.data.datalist import CLASSES, read_datalist
from cvm_monai.data.stain import StainTarget, stored_method, stored_target
from cvm_monai.engines.workflow import bundle_root, models_dir
from cvm_monai.errors import CvmError
from cvm_monai.files import sha256_of
from cvm_monai.inference.network import Averaged, average_networks, network_of
from cvm_monai.networks.encoder import IMAGENET_MEAN, IMAGENET_STD
from cvm_monai.networks.state import load_weights
from cvm_monai.runs.folder import TrainedKnobs

PROBE = 64


@dataclass(frozen=True)
class SlideModel:
    """A network, and how slides are resampled and normalised for it.

    Attributes:
        network: logits (B, classes, h, w) from (B, 3, H, W), in evaluation mode, on its device.
        mpp: um/px of the training; None: it was trained on images at `scale`, with any um/px.
        scale: of the training, working size / file size; used where `mpp` is None.
        names: class names, background first.
        stain: target of the training's stain normalisation; None: without normalisation.
        image_mean, image_std: of the training's normalisation, for intensities in [0, 1].
        device: to compute on.
        amp: compute in mixed precision: faster on a GPU, slightly less exact.
    """

    network: nn.Module
    mpp: float | None = None
    scale: float = 1.0
    names: Sequence[str] = ("background", "target")
    stain: StainTarget | None = None
    image_mean: Sequence[float] = IMAGENET_MEAN
    image_std: Sequence[float] = IMAGENET_STD
    device: torch.device | str = "cpu"
    amp: bool = False
    _identity: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def logits(self, tiles: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, classes, h, w), on the device, of uint8 tiles (B, H, W, 3)."""
        pixels = tiles.to(self.device, non_blocking=True).permute(0, 3, 1, 2).contiguous()
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=self.device).reshape(3, 1, 1)
            for values in (self.image_mean, self.image_std)
        )
        device = torch.device(self.device).type
        with torch.inference_mode(), torch.autocast(device, enabled=self.amp):
            found: torch.Tensor = self.network((pixels.float() / 255 - mean) / std)
        return found

    def stride(self) -> int:
        """Input pixels per output pixel along a side.

        Raises:
            CvmError: the number of output classes is not the number of names.
        """
        logits = self.logits(torch.zeros((1, PROBE, PROBE, 3), dtype=torch.uint8))
        if logits.shape[1] != len(self.names):
            raise CvmError(f"the network distinguishes {logits.shape[1]} classes, but {len(self.names)} are named")
        return PROBE // int(logits.shape[-1])

    def settings(self) -> dict[str, Any]:
        """Return for the record all that determines the output: models with equal settings give equal predictions."""
        if not self._identity:
            facts = {
                "model": weights_sha256(self.network),
                "test_time_flips": isinstance(self.network, Averaged) and self.network.views > 1,
                "model_mpp": self.mpp,
                "model_scale": self.scale if self.mpp is None else None,
                "classes": list(self.names),
                "stain": None if self.stain is None else sha256_of(repr(self.stain).encode()),
                "image_mean": list(self.image_mean),
                "image_std": list(self.image_std),
                "amp": self.amp,
            }
            self._identity.update(facts)
        return dict(self._identity)


def load_slide_model(
    folder: str | PathLike[str],
    *,
    mpp: float | None = None,
    ensemble: Sequence[str] | None = None,
    flips: bool = False,
    device: torch.device | str = "cpu",
    amp: bool = False,
) -> SlideModel:
    """Load the network in a training's output folder, or in a bundle, with the facts in its `run.json`.

    Args:
        folder: the output folder of a training, or a bundle's root.
        mpp: um/px of the training, in place of the record's.
        ensemble: output folders of further trainings, see `average_networks`.
        flips: see `Averaged`.
        device: to compute on.
        amp: see `SlideModel`.

    Raises:
        CvmError: no such folder, no model in it, a damaged one, or `mpp` that is not above 0.

    Example:
        >>> import cvm_monai as cvm
        >>> model = cvm.load_slide_model("runs/mine", mpp=0.5)
        >>> model.mpp
        0.5
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CvmError(f"there is no folder {folder}: give the --output_dir of a training, or a bundle, as --model")
    if mpp is not None and not mpp > 0:
        raise CvmError(f"--model_mpp must be a number of um/px greater than 0, got {mpp!r}")
    bundle = (folder / "configs").is_dir()
    output = str(folder / "eval" if bundle else folder)
    models = models_dir(bundle_root=str(folder) if bundle else bundle_root(), output_dir=output)
    known = TrainedKnobs(output)
    net = load_weights(network_of(known), Path(models) / "model.pt", device=device)
    method = known["stain_normalisation"] or stored_method(folder=models)
    stain = stored_target(folder=models, method=method)
    return SlideModel(
        average_networks(net, ensemble=ensemble, flips=flips, stain=stain, device=device),
        mpp=known["mpp"] if mpp is None else mpp,
        scale=known["scale"],
        names=class_names(output, known["classes"]),
        stain=stain,
        image_mean=known["image_mean"],
        image_std=known["image_std"],
        device=device,
        amp=amp,
    )


def class_names(output_dir: str | PathLike[str], count: int) -> tuple[str, ...]:
    """Return the class names, background first: those of the training's data list, else by number."""
    by_number = (*CLASSES, *(f"class {number}" for number in range(2, count)))
    if not (Path(output_dir) / "datalist.json").is_file():
        return by_number
    known = {number: name for name, number in read_datalist(str(output_dir)).classes.items()}
    return tuple(known.get(number, by_number[number]) for number in range(count))


def weights_sha256(network: nn.Module) -> str:
    """Hash (SHA-256) all parameters and buffers, by name."""
    total = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        total.update(json.dumps([name, list(value.shape), str(value.dtype)]).encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
