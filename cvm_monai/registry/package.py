"""Packing of a trained network into an MLflow model, and the parts that an exported bundle holds as well.

The model is from code: a script, this package, and the bundle's files gathered around the network's weights as arrays
(`stage`). No network is pickled, and no path of the training's machine or patient's name is given away.
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
"""Knobs that mean places on the machine of the training: left out of what is given away."""
RECORDED = ("started", "python", "versions", "commit", "data_sha256", "status")
BESIDE_WEIGHTS = ("*.json", "*.npz", "*.npy")
"""What a training may leave beside its weights, such as the stains that its images were normalised to."""
CLUTTER = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def save_model(trained: Trained, folder: Path, *, bundle: Path, metadata: Mapping[str, Any]) -> Path:
    """Write the MLflow model into `folder/model`, having segmented its input example by it once.

    Raises:
        CvmError: weights that do not fit the network which `run.json` names.
    """
    import mlflow.pyfunc

    from cvm_monai.registry.segmenter import BUNDLE, Segmenter

    # Weights of another network: one sentence, where the configuration would wrap it.
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
    """Records {image, mpp?} in, {mask, probability, polygons?} out, and the parameter `polygons`."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    # Of any type, and none required: the model itself says what is wrong with which record.
    inputs: list[Any] = [ColSpec(AnyType(), "image", required=False), ColSpec(AnyType(), "mpp", required=False)]
    probability = DataType.string if classes == 2 else Array(DataType.string)
    outputs: list[Any] = [ColSpec("string", "mask"), ColSpec(probability, "probability")]
    outputs.append(ColSpec(AnyType(), "polygons", required=False))
    parameter = ParamSpec("polygons", DataType.boolean, default=False)
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema([parameter]))


def input_example(mpp: float | None) -> list[dict[str, Any]]:
    """Two records of different sizes, drawn, so that no patient's image is given away."""
    records = [{"image": encode_png(_drawing(*shape))} for shape in ((64, 64), (48, 80))]
    return records if mpp is None else [{**record, "mpp": mpp} for record in records]


def _drawing(height: int, width: int) -> np.ndarray:
    """A purple disc on pink, (height, width, 3) uint8."""
    rows, columns = np.mgrid[:height, :width]
    disc = np.hypot(rows - height / 2, columns - width / 2) < min(height, width) / 4
    return np.where(disc[..., None], (120, 60, 140), (230, 180, 210)).astype(np.uint8)


def _segment_example(segmenter: Any, staged: Path, example: list[dict[str, Any]]) -> None:
    import pandas as pd

    segmenter.load(staged)
    segmenter.predict(None, pd.DataFrame(example))


def package_version() -> str:
    """Of this package."""
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


def dependencies() -> tuple[str, ...]:
    """Names of the packages that this one needs, without its extras.

    A checkout's own `pyproject.toml` says it, as the metadata of an editable installation may be older; else the
    metadata of the installed package.

    Raises:
        CvmError: neither is there.
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
    """What the network of a training needs: timm too, where its extractor is one of timm's.

    The weights of an extractor are part of the network's own, so that no package of weights is among them.
    """
    by_timm = knobs.get("network") in NAMED_NETWORKS and is_timm(knobs.get("extractor_path"))
    return (*dependencies(), "timm") if by_timm else dependencies()


def pinned_requirements(knobs: Mapping[str, Any]) -> list[str]:
    """The versions in use here; a build such as `2.13.0+cpu` is asked for as the release 2.13.0.

    `cvm-monai` is not among them: no index need have it, and its code travels along.
    """
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in requirements_of(knobs)]


def write_config(file: Path, content: Any) -> None:
    """A configuration, in the language that the file's name says; the comments of one that was read are lost."""
    if file.suffix == ".json":
        write_json(file, content)
        return
    import yaml

    write_text(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=False, width=120))
