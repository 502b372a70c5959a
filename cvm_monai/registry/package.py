"""One MLflow model from a staged bundle: models from code, so that no network is pickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cvm_monai.inference import load_network
from cvm_monai.place import PACKAGE
from cvm_monai.registry.records import encode_png
from cvm_monai.registry.requirements import pinned_requirements
from cvm_monai.registry.staging import copy_package, stage
from cvm_monai.registry.trained import Trained


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
    _try(Segmenter(), staged, example)
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


def _try(segmenter: Any, staged: Path, example: list[dict[str, Any]]) -> None:
    import pandas as pd

    segmenter.load(staged)
    segmenter.predict(None, pd.DataFrame(example))


def package_version() -> str:
    """Of this package."""
    import cvm_monai

    assert Path(cvm_monai.__file__).parent == PACKAGE
    return cvm_monai.__version__
