"""Load the network in use: of a given training, the last one made here, the bundle's, or pretrained features."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.data.stain import StainTarget
from cvm_monai.engines.workflow import bundle_root, models_dir
from cvm_monai.errors import CvmError
from cvm_monai.files import read_json, write_text
from cvm_monai.inference import load_network, load_stain
from cvm_monai.interactive import ColdFeatures
from cvm_monai.knobs import DEFAULTS, TRAINING
from cvm_monai.runs.folder import TrainedKnobs

POINTER = "current.json"
UNTRAINED = "untrained"
"""Key of the features that are in use without a training."""


@dataclass(frozen=True)
class ActiveModel:
    """The network in use and the normalisation of its images.

    Attributes:
        network: in evaluation mode.
        output_dir: of its training; None for `ColdFeatures`.
        knobs: the training's recorded knobs of the network, its images and u.
        key: changes whenever the weights do.
        stain: target of its training's stain normalisation; None: without normalisation.
    """

    network: nn.Module
    output_dir: Path | None
    knobs: Mapping[str, Any]
    key: str
    stain: StainTarget | None = None

    @property
    def trained(self) -> bool:
        """Whether the network was trained."""
        return self.output_dir is not None


class ModelLoader:
    """Load the network in use once, and again when it changes. Threads may share it.

    Args:
        work: the app's folder; its `current.json` names the output folder of the training in use.
        bundle: its own model is used where there is no pointer; None: the bundle beside the package.
        device: to compute on.
        own: whether the bundle's own model is used at all.
    """

    def __init__(
        self,
        work: str | Path,
        *,
        bundle: str | Path | None = None,
        device: torch.device | str = "cpu",
        own: bool = True,
    ) -> None:
        self.work, self.device, self.own = Path(work), torch.device(device), own
        self.bundle = Path(bundle_root()) if bundle is None else Path(bundle)
        self._lock = threading.Lock()
        self._loaded: ActiveModel | None = None
        self._untrained: ActiveModel | None = None

    def output_dir(self) -> Path | None:
        """Return the output folder of the training in use: the pointer's, else the bundle's own if it has a model.

        Raises:
            CvmError: a damaged pointer.
        """
        pointer = self.work / POINTER
        if pointer.is_file():
            found = read_json(pointer)
            if not isinstance(found, dict) or not isinstance(found.get("output_dir"), str):
                raise CvmError(f"{pointer} does not name a run folder: remove it, or give --conf model RUN")
            return Path(found["output_dir"])
        default = self.bundle / "eval"
        return default if self.own and model_path(default, bundle=self.bundle).is_file() else None

    def use(self, output_dir: str | Path) -> None:
        """Use the network of a training from now on.

        Raises:
            CvmError: the training has no model.
        """
        output_dir = Path(output_dir).resolve()
        weights = model_path(output_dir, bundle=self.bundle)
        if not weights.is_file():
            raise CvmError(f"there is no trained network at {weights}: give the run folder of a training")
        write_text(self.work / POINTER, json.dumps({"output_dir": str(output_dir)}) + "\n")

    def get(self) -> ActiveModel:
        """Return the network, loaded again if it has changed.

        Raises:
            CvmError: weights that cannot be read, or of another network.
        """
        output_dir = self.output_dir()
        key = UNTRAINED if output_dir is None else _key(model_path(output_dir, bundle=self.bundle))
        with self._lock:
            if self._loaded is None or self._loaded.key != key:
                self._loaded = _load(output_dir, key, self.device, self.bundle)
            return self._loaded

    def untrained(self) -> ActiveModel:
        """Return the features that are in use without a training, whether there is one or not."""
        with self._lock:
            if self._untrained is None:
                self._untrained = _load(None, UNTRAINED, self.device, self.bundle)
            return self._untrained


def model_path(output_dir: Path, *, bundle: Path) -> Path:
    """Return the path of a training's weights; `bundle` is the root of the bundle that trains here."""
    root = str(_owner(output_dir, bundle))
    return Path(models_dir(bundle_root=root, output_dir=str(output_dir))) / "model.pt"


def recorded_knobs(output_dir: Path | None) -> Mapping[str, Any]:
    """Read the training's knobs of the network and its input; the defaults without a training."""
    if output_dir is None:
        return {**{name: knob.earlier for name, knob in TRAINING.items()}, **DEFAULTS}
    return TrainedKnobs(output_dir, {"stain_normalisation": "none"})


def _key(path: Path) -> str:
    """Return a text that changes with a file."""
    try:
        facts = path.stat()
    except OSError:
        raise CvmError(f"there is no trained network at {path}: train again, or give --conf model RUN") from None
    return f"{path}:{facts.st_mtime_ns}:{facts.st_size}"


def _owner(output_dir: Path, bundle: Path) -> Path:
    """Return the bundle that keeps the model of an output folder: the package's for its own folder, else the given."""
    own = Path(bundle_root()).resolve()
    return own if output_dir.resolve() == own / "eval" else bundle


def _load(output_dir: Path | None, key: str, device: torch.device, bundle: Path) -> ActiveModel:
    if output_dir is not None:
        root = _owner(output_dir, bundle)
        network = load_network(output_dir, device=device, bundle=root)
        stain = load_stain(output_dir, bundle=root)
        return ActiveModel(network, output_dir, recorded_knobs(output_dir), key, stain)
    return ActiveModel(ColdFeatures().to(device).eval(), None, recorded_knobs(None), key)
