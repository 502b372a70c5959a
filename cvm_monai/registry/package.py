"""Pack a trained network into an MLflow model, with the parts shared with an exported bundle.

The model is a "model from code": a script, this package, and the bundle's files with the network's weights as arrays
(`stage`). No network is pickled, and no path of the training's machine or patient's name is included.
"""

import importlib.metadata
import json
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement

from cvm_monai.bundle_files import PACKAGE
from cvm_monai.errors import CvmError
from cvm_monai.files import write_json, write_text
from cvm_monai.inference import load_network
from cvm_monai.knobs import names
from cvm_monai.networks import NAMED_NETWORKS
from cvm_monai.networks.extractor_names import is_name, is_timm
from cvm_monai.networks.state import write_arrays
from cvm_monai.registry.segmenter import CLASSES, WEIGHTS, encode_png
from cvm_monai.registry.trained import Trained

DISTRIBUTION = "cvm-monai"
PLACES = ("bundle_root", *names(role="place"))
"""Knobs that are places on the training's machine: left out of published files."""
RECORDED = ("started", "python", "versions", "commit", "data_sha256", "status")
BESIDE_WEIGHTS = ("*.json", "*.npz", "*.npy")
"""Files that a training may leave beside its weights, such as the target of the stain normalisation."""
CLUTTER = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def save_model(trained: Trained, folder: Path, *, bundle: Path, metadata: Mapping[str, Any]) -> Path:
    """Write the MLflow model into `folder/model` and segment its input example with it once.

    Raises:
        CvmError: weights that do not fit the network which `run.json` names.
    """
    import mlflow.pyfunc

    from cvm_monai.registry.segmenter import BUNDLE, Segmenter

    # Check first: the configuration would wrap the error about weights of another network.
    load_network(trained.output, weights=trained.weights)
    staged = stage(trained, folder / BUNDLE, bundle=bundle)
    example = input_example(trained.knobs.get("mpp"))
    _segment_example(Segmenter(), staged, example)
    mlflow.pyfunc.save_model(
        str(folder / "model"),
        python_model=str(Path(__file__).with_name("model_code.py")),
        code_paths=[str(copy_package(folder / "code"))],
        artifacts={BUNDLE: str(staged)},
        signature=signature(len(trained.classes)),
        input_example=(example, {"polygons": False}),
        pip_requirements=pinned_requirements(trained.knobs),
        metadata=dict(metadata),
    )
    return folder / "model"


def signature(classes: int) -> Any:
    """Build the signature: records {image, mpp?} to {mask, probability, polygons?}, and the parameter `polygons`."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    # Any type, none required: the model itself reports what is wrong with which record.
    inputs: list[Any] = [ColSpec(AnyType(), "image", required=False), ColSpec(AnyType(), "mpp", required=False)]
    probability = DataType.string if classes == 2 else Array(DataType.string)
    outputs: list[Any] = [ColSpec("string", "mask"), ColSpec(probability, "probability")]
    outputs.append(ColSpec(AnyType(), "polygons", required=False))
    parameter = ParamSpec("polygons", DataType.boolean, default=False)
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema([parameter]))


def input_example(mpp: float | None) -> list[dict[str, Any]]:
    """Build two records of synthetic images of different sizes, so that no patient's image is included."""
    records = [{"image": encode_png(_drawing(*shape))} for shape in ((64, 64), (48, 80))]
    return records if mpp is None else [{**record, "mpp": mpp} for record in records]


def _drawing(height: int, width: int) -> np.ndarray:
    """Draw a purple disc on pink, (height, width, 3) uint8."""
    rows, columns = np.mgrid[:height, :width]
    disc = np.hypot(rows - height / 2, columns - width / 2) < min(height, width) / 4
    return np.where(disc[..., None], (120, 60, 140), (230, 180, 210)).astype(np.uint8)


def _segment_example(segmenter: Any, staged: Path, example: list[dict[str, Any]]) -> None:
    import pandas as pd

    segmenter.load(staged)
    segmenter.predict(None, pd.DataFrame(example))


def package_version() -> str:
    """Return the version of this package."""
    import cvm_monai

    assert Path(cvm_monai.__file__).parent == PACKAGE
    return cvm_monai.__version__


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
    """Copy the configurations, documents and licence of a bundle."""
    for name in ("configs", "docs"):
        shutil.copytree(bundle / name, folder / name, ignore=CLUTTER)
    shutil.copy(bundle / "LICENSE", folder / "LICENSE")


def copy_package(folder: Path) -> Path:
    """Copy this package into `folder`, without the bundle that an installed one contains."""
    target = folder / PACKAGE.name
    shutil.copytree(PACKAGE, target, ignore=CLUTTER)
    shutil.rmtree(target / "bundle", ignore_errors=True)
    return target


def companions(trained: Trained) -> list[Path]:
    """List the files beside the weights that the inference may read."""
    return [file for pattern in BESIDE_WEIGHTS for file in sorted(trained.weights.parent.glob(pattern))]


def public_record(trained: Trained) -> dict[str, Any]:
    """Return `run.json` without paths and addresses."""
    kept = {name: trained.record[name] for name in RECORDED if name in trained.record}
    return kept | {"knobs": portable_knobs(trained)}


def portable_knobs(trained: Trained) -> dict[str, Any]:
    """Return the knobs without places; an extractor's name is kept, as it says which network the weights belong to."""
    return {name: value for name, value in trained.knobs.items() if name not in PLACES or is_name(value)}


def fitted_metadata(metadata: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the bundle's metadata with the classes of this network."""
    fitted: dict[str, Any] = json.loads(json.dumps(metadata))
    pred = fitted["network_data_format"]["outputs"]["pred"]
    pred["num_channels"] = len(classes)
    pred["channel_def"] = {str(number): name for number, name in enumerate(classes)}
    names = ", ".join(f"{number} {name}" for number, name in enumerate(classes))
    fitted["pred_classes"] = f"{len(classes)} channels of logits: {names}"
    fitted["label_classes"] = f"one channel: {names}, 255 unlabelled"
    return fitted


def dependencies() -> tuple[str, ...]:
    """Return the names of the packages that this one needs, without its extras.

    They are read from a checkout's `pyproject.toml`, as the metadata of an editable installation may be older; else
    from the metadata of the installed package.

    Raises:
        CvmError: both are missing.
    """
    project = PACKAGE.parent / "pyproject.toml"
    if project.is_file():
        lines = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    else:
        try:
            lines = importlib.metadata.requires(DISTRIBUTION) or []
        except importlib.metadata.PackageNotFoundError as error:
            raise CvmError(f"{DISTRIBUTION} is not installed, so what it needs is not known: pip install it") from error
    wanted = [Requirement(line) for line in lines]
    return tuple(one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""}))


def requirements_of(knobs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the packages that a training's network needs, with timm where its extractor is one of timm's.

    No package of weights is among them: the network's weights include those of an extractor.
    """
    by_timm = knobs.get("network") in NAMED_NETWORKS and is_timm(knobs.get("extractor_path"))
    return (*dependencies(), "timm") if by_timm else dependencies()


def pinned_requirements(knobs: Mapping[str, Any]) -> list[str]:
    """Pin the installed versions; a build such as `2.13.0+cpu` is pinned as the release 2.13.0.

    `cvm-monai` is not among them: its code is included.
    """
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in requirements_of(knobs)]


def write_config(file: Path, content: Any) -> None:
    """Write a configuration as JSON or YAML, by the file's suffix; comments of the original are lost."""
    if file.suffix == ".json":
        write_json(file, content)
        return
    import yaml

    write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=False, width=120))
