"""The MLflow model: records in, masks out. Imported by the model's own script, where MLflow is there anyway."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel

from cvm_monai.registry.pipeline import BundlePipeline
from cvm_monai.registry.records import answer, read_record

BUNDLE = "bundle"
"""Name of the artifact."""
CLASSES = "classes.json"


class WrongRecordError(MlflowException):
    """What is wrong with a record, and nothing else: MLflow's server would put the whole request before the reason."""

    @property
    def message(self) -> str:
        """The sentence."""
        return self._sentence

    @message.setter
    def message(self, words: str) -> None:
        self._sentence = words.rpartition("\nError: ")[2]


class Segmenter(PythonModel):
    """Segments records {image, mpp?} as the bundle's `inference` does; see `cvm_monai.registry.records`."""

    def load_context(self, context: Any) -> None:
        """Build the network from the staged bundle."""
        self.load(Path(context.artifacts[BUNDLE]))

    def load(self, folder: Path) -> None:
        """The same, from its folder."""
        self.pipeline = BundlePipeline(folder)
        self.classes = json.loads((folder / CLASSES).read_text(encoding="utf-8"))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """One answer for each record, in their order; `params` {"polygons": True} adds GeoJSON.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE: which record (from 1), what is wrong with it, what to send.
        """
        del context
        records = model_input.to_dict("records")
        if not records:
            raise WrongRecordError.invalid_parameter_value("there is no record with an 'image': send [{'image': ...}]")
        polygons = bool((params or {}).get("polygons", False))
        return [self._segment(record, number, polygons) for number, record in enumerate(records, start=1)]

    def _segment(self, record: dict[Any, Any], number: int, polygons: bool) -> dict[str, Any]:
        try:
            asked = read_record(record)
            return answer(self.pipeline(asked.image, mpp=asked.mpp), classes=self.classes, polygons=polygons)
        except ValueError as error:
            raise WrongRecordError.invalid_parameter_value(f"record {number}: {error}") from error
