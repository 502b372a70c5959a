"""The script that MLflow stores in place of a pickle, and runs to load the model."""

from mlflow.models import set_model

from cvm_monai.registry.segmenter import Segmenter

set_model(Segmenter())
