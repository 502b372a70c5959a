"""The bundle's own inference, step by step as its configuration wires it, on one image in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from cvm_monai.configs import config_file
from cvm_monai.errors import CvmError
from cvm_monai.inference import ReadImaged, SavePredictiond, working_factor

WEIGHTS = "weights.npz"
MOST_PIXELS = 2**28
"""A working size above this is refused: the um/px of the image must then be wrong."""


class BundlePipeline:
    """Segments as `run inference` does: transforms, network and windows are those of `configs/inference.yaml`.

    Only reading from a file and writing to one are left out.

    Args:
        folder: a staged bundle: `configs/`, `run.json`, `models/weights.npz`.
        device: where to compute; None takes the configuration's choice, a GPU where there is one.

    Raises:
        CvmError: weights that do not fit the network.
    """

    def __init__(self, folder: str | Path, *, device: str | None = None) -> None:
        folder = Path(folder)
        parser = ConfigParser()
        parser.read_config(str(config_file(folder / "configs", "inference")))
        places = {"bundle_root": folder, "output_dir": folder, "ckpt_dir": folder / "models"}
        for key, value in {**places, "ckpt_path": folder / "models" / WEIGHTS}.items():
            parser[key] = str(value)
        if device is not None:
            parser["device"] = device
        content = parser.get_parsed_content
        self.device = torch.device(content("device"))
        self.network, self.inferer = content("predictor"), content("inferer")
        self.scale, self.mpp = content("scale"), content("mpp")
        self._before = _without(content("preprocessing"), ReadImaged)
        self._after = _without(content("postprocessing"), SavePredictiond)

    def __call__(self, image: np.ndarray, *, mpp: float | None = None) -> np.ndarray:
        """Probabilities at the image's own size: (1, H, W) of the target, or (C, H, W) of more than two classes.

        Args:
            image: (H, W, 3) uint8 RGB.
            mpp: its micrometres per pixel; a network trained at a `scale` rather than an `mpp` does not look at them.

        Raises:
            CvmError: an mpp that the network needs, or one that would make the image huge.
        """
        if self.mpp is not None and mpp is None:
            raise CvmError(f"it has no mpp, and the network was trained at {self.mpp:g} um/px: send the image's")
        factor = working_factor(scale=self.scale, mpp=self.mpp, image_mpp=mpp, case_id="")
        if image.shape[0] * image.shape[1] * factor**2 > MOST_PIXELS:
            raise CvmError(
                f"{image.shape[1]} x {image.shape[0]} px would become {factor:g} times as wide: check mpp, or cut it"
            )
        item: dict[Any, Any] = {"image": torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))}
        item = _apply(self._before, item | ({} if mpp is None else {"mpp": mpp}))
        with torch.inference_mode():
            logits = self.inferer(item["image"][None].to(self.device), self.network)
        return np.asarray(_apply(self._after, {**item, "pred": logits[0]})["pred"])


def _without(chain: Any, left_out: type) -> list[Any]:
    return [step for step in chain.transforms if not isinstance(step, left_out)]


def _apply(steps: list[Any], item: dict[Any, Any]) -> dict[Any, Any]:
    for step in steps:
        item = step(item)
    return item
