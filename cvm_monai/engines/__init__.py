"""Ignite engines and handlers of the training, evaluation and inference workflows."""

from cvm_monai.engines.evaluation import TestReport
from cvm_monai.engines.metrics import MaskDice, PartialCrossEntropyMetric
from cvm_monai.engines.network_options import training_network
from cvm_monai.engines.processes import SharedEvaluator, process_device, rank_seed, shared_network
from cvm_monai.engines.progress import EpochMeans, Progress
from cvm_monai.engines.recorders import OutputRecorder, RunRecorder
from cvm_monai.engines.renewal import PseudoLabelRenewal
from cvm_monai.engines.renewal_plan import RenewalPlan
from cvm_monai.engines.restarts import Restarts
from cvm_monai.engines.resume import Checkpoints, finished_training
from cvm_monai.engines.selection import BestModelSaver, LowestMetric, lower_is_better
from cvm_monai.engines.stain_shifts import StainShiftTest
from cvm_monai.engines.trainer import InOrder, PointTrainer
from cvm_monai.engines.weight_average import InferenceWeights, WeightAverage
from cvm_monai.engines.workflow import bundle_root, follow_parser, models_dir, read_nulls, recorded, run_knobs
from cvm_monai.runs.folder import TrainedKnobs
from cvm_monai.runs.store import default_tracking_uri
from cvm_monai.runs.tracking import unique_run_name

__all__ = [
    "BestModelSaver",
    "Checkpoints",
    "EpochMeans",
    "InOrder",
    "InferenceWeights",
    "LowestMetric",
    "MaskDice",
    "OutputRecorder",
    "PartialCrossEntropyMetric",
    "PointTrainer",
    "Progress",
    "PseudoLabelRenewal",
    "RenewalPlan",
    "Restarts",
    "RunRecorder",
    "SharedEvaluator",
    "StainShiftTest",
    "TestReport",
    "TrainedKnobs",
    "WeightAverage",
    "bundle_root",
    "default_tracking_uri",
    "finished_training",
    "follow_parser",
    "lower_is_better",
    "models_dir",
    "process_device",
    "rank_seed",
    "read_nulls",
    "recorded",
    "run_knobs",
    "shared_network",
    "training_network",
    "unique_run_name",
]
