"""Export the bare network to ONNX and to PyTorch's `.pt2`, with dynamic batch and image size."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvm_monai.errors import CvmError
from cvm_monai.files import replacing, shown
from cvm_monai.knobs import TRAINING
from cvm_monai.registry.trained import Trained, read_trained

INPUT, OUTPUT = "image", "pred"
FACTS = "cvm_monai.json"
"""Name of the metadata file inside a `.pt2` file."""
SMALLEST, EXAMPLE = 32, 64
"""Sides in pixels of the smallest image and of the traced one."""
MULTIPLES: Mapping[str, int] = {"unet": 16, "resnet34_unet": 32, "timm_unet": 32}
"""Multiple in pixels to which the networks pad that give logits of the image's own size."""


def export_network(output_dir: str | Path, *targets: str | Path) -> list[Path]:
    """Write the network of a finished training to each file, in the format of its suffix, `.onnx` or `.pt2`.

    It maps float32 `image` (B, 3, H, W), normalised, any H and W from 32, to logits `pred` (B, classes, h, w). The
    normalisation and the classes are in the file: ONNX's metadata, `cvm_monai.json` of a `.pt2`. Files are replaced
    atomically.

    Raises:
        CvmError: no file to write, an unknown suffix, no finished training, a network that cannot be exported, or a
            missing package of the extra `export`.
    """
    paths = [Path(target) for target in targets]
    unknown = [path for path in paths if path.suffix not in _WRITERS]
    if not paths or unknown:
        what = f"not {shown(str(unknown[0]))}" if unknown else "and give at least one"
        raise CvmError(f"an exported network ends in {' or '.join(_WRITERS)}, {what}")
    if any(path.suffix == ".onnx" for path in paths):
        _check_onnx()
    trained = read_trained(output_dir)
    from cvm_monai.inference import load_network

    network = load_network(trained.output, weights=trained.weights)
    _check_grid(network, trained)
    for path in paths:
        with replacing(path) as aside, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # silence the exporters' deprecation notices
            _WRITERS[path.suffix](network, aside, facts(trained))
    return paths


def facts(trained: Trained) -> dict[str, str]:
    """Return the metadata needed to use the bare network, each as JSON text."""
    knobs = {name: knob.earlier for name, knob in TRAINING.items()} | dict(trained.knobs)
    found = {
        "classes": list(trained.classes),
        "image_mean": knobs["image_mean"],
        "image_std": knobs["image_std"],
        "input": "(value / 255 - image_mean) / image_std of RGB",
        "um_per_px": knobs["mpp"],
        "scale": knobs["scale"],
        "stain_normalisation": knobs["stain_normalisation"],
        "network": knobs["network"],
        "data_sha256": trained.record.get("data_sha256"),
    }
    return {name: json.dumps(value) for name, value in found.items()}


def _check_grid(network: Any, trained: Trained) -> None:
    """Raise CvmError for a network that resamples an extractor's features to a grid of another stride."""
    extractor = getattr(network, "extractor", None)
    if extractor is not None and network.stride != extractor.stride:
        raise CvmError(
            f"the network {trained.knobs.get('network')!r} on {trained.knobs.get('extractor_path')} resamples "
            "features, which no exported file can do at every size: use register or export-bundle, or train "
            "'frozen_two_component' on --extractor_path imagenet"
        )


def _check_onnx() -> None:
    from importlib.util import find_spec

    if find_spec("onnx") is None:
        raise CvmError("the package onnx is missing: pip install 'cvm-monai[export]'")


def _write_onnx(network: Any, path: Path, facts: Mapping[str, str]) -> None:
    """Write ONNX by tracing: the networks compute sizes from sizes, so that only the weights become constants."""
    import onnx

    axes = {INPUT: {0: "batch", 2: "height", 3: "width"}, OUTPUT: {0: "batch", 2: "out_height", 3: "out_width"}}
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, EXAMPLE, EXAMPLE),),
        path,
        dynamo=False,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes=axes,
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _write_pt2(network: Any, path: Path, facts: Mapping[str, str]) -> None:
    multiple = MULTIPLES.get(json.loads(facts["network"]))
    whole = network if multiple is None else PaddedByIndex(network, multiple=multiple).eval()
    sides = {axis: torch.export.Dim(name, min=SMALLEST, max=2**15) for axis, name in ((2, "height"), (3, "width"))}
    program = torch.export.export(
        whole,
        (torch.zeros(2, 3, EXAMPLE, EXAMPLE + 17),),
        dynamic_shapes=({0: torch.export.Dim("batch", max=2**10), **sides},),
        prefer_deferred_runtime_asserts_over_guards=True,  # else sizes are restricted to the provable range
    )
    torch.export.save(program, path, extra_files={FACTS: json.dumps(dict(facts))})


class PaddedByIndex(nn.Module):
    """Map (B, C, H, W) to the network's logits, up to rounding, with padding and cropping by index outside of it.

    `torch.export` specialises on whether a padding or a slice changes anything in the example. A selection by index is
    the same program in both cases; inside, the network has nothing to pad.

    Args:
        network: pads to `multiple` as `pad_to_multiple` does, and gives logits of its input's size.
        multiple: in pixels.
    """

    def __init__(self, network: nn.Module, *, multiple: int) -> None:
        super().__init__()
        self.network, self.multiple = network, multiple

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.network(self._padded(self._padded(x, 2), 3))
        for axis in (2, 3):
            logits = logits.index_select(axis, torch.arange(x.shape[axis], device=x.device))
        return logits

    def _padded(self, x: torch.Tensor, axis: int) -> torch.Tensor:
        """Repeat the last row or column as `pad_to_multiple` does."""
        side = x.shape[axis]
        steps = (side + self.multiple - 1) // self.multiple
        steps = steps + 2 // (steps + 1)
        return x.index_select(axis, torch.arange(steps * self.multiple, device=x.device).clamp(max=side - 1))


_WRITERS: dict[str, Callable[[Any, Path, Mapping[str, str]], None]] = {".onnx": _write_onnx, ".pt2": _write_pt2}
