"""The bundle's files gathered around one trained network, without pickles, paths or patients' names."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvm_monai.files import write_json, write_text
from cvm_monai.knobs import names
from cvm_monai.networks.extractor_names import is_name
from cvm_monai.networks.state import write_arrays
from cvm_monai.place import PACKAGE
from cvm_monai.registry.pipeline import WEIGHTS
from cvm_monai.registry.segmenter import CLASSES
from cvm_monai.registry.trained import Trained

PLACES = ("bundle_root", *names(role="place"))
"""Knobs that mean places on the machine of the training: left out of what is given away."""
RECORDED = ("started", "python", "versions", "commit", "data_sha256", "status")
BESIDE_WEIGHTS = ("*.json", "*.npz", "*.npy")
"""What a training may leave beside its weights, such as the stains that its images were normalised to."""
CLUTTER = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def stage(trained: Trained, folder: Path, *, bundle: Path) -> Path:
    """Write configurations, card, licence, record and weights (as arrays, `models/weights.npz`) into `folder`."""
    copy_bundle(bundle, folder)
    folder.joinpath("models").mkdir()
    for file in companions(trained):
        shutil.copy(file, folder / "models")
    write_arrays(trained.weights, folder / "models" / WEIGHTS)
    write_json(folder / "run.json", public_record(trained))
    write_json(folder / CLASSES, list(trained.classes))
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    write_json(folder / "configs" / "metadata.json", fitted_metadata(metadata, trained.classes))
    return folder


def copy_bundle(bundle: Path, folder: Path) -> None:
    """Configurations, documents and licence of a bundle."""
    for name in ("configs", "docs"):
        shutil.copytree(bundle / name, folder / name, ignore=CLUTTER)
    shutil.copy(bundle / "LICENSE", folder / "LICENSE")


def copy_package(folder: Path) -> Path:
    """A clean copy of this package in `folder`, without the bundle that an installed one holds."""
    target = folder / PACKAGE.name
    shutil.copytree(PACKAGE, target, ignore=CLUTTER)
    shutil.rmtree(target / "bundle", ignore_errors=True)
    return target


def companions(trained: Trained) -> list[Path]:
    """The files beside the weights that the inference may look for."""
    return [file for pattern in BESIDE_WEIGHTS for file in sorted(trained.weights.parent.glob(pattern))]


def public_record(trained: Trained) -> dict[str, Any]:
    """`run.json` without paths and addresses."""
    kept = {name: trained.record[name] for name in RECORDED if name in trained.record}
    return kept | {"knobs": portable_knobs(trained)}


def portable_knobs(trained: Trained) -> dict[str, Any]:
    """Its settings without places; an extractor by name is none, and says which network the weights are of."""
    return {name: value for name, value in trained.knobs.items() if name not in PLACES or is_name(value)}


def fitted_metadata(metadata: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The bundle's metadata with the classes that this network tells apart."""
    fitted: dict[str, Any] = json.loads(json.dumps(metadata))
    pred = fitted["network_data_format"]["outputs"]["pred"]
    pred["num_channels"] = len(classes)
    pred["channel_def"] = {str(number): name for number, name in enumerate(classes)}
    names = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
    fitted["pred_classes"] = f"{len(classes)} channels of logits: {names}"
    fitted["label_classes"] = f"one channel: {names}, 255 unlabelled"
    return fitted


def write_config(file: Path, content: Any) -> None:
    """A configuration, in the language that the file's name says; the comments of one that was read are lost."""
    if file.suffix == ".json":
        write_json(file, content)
        return
    import yaml

    write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=False, width=120))
