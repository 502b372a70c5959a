"""Segmentation of images by a trained network: find the images, predict in windows, write the results."""

from cvm_monai.inference.network import Averaged, average_networks, load_network, load_stain
from cvm_monai.inference.predict import WindowInferer, network_input, predict, predict_classes, working_factor
from cvm_monai.inference.progress import ImageProgress
from cvm_monai.inference.transforms import PrepareImaged, ReadImaged, SavePredictiond, ToProbabilityd, find_images
from cvm_monai.inference.write import OutputFormat, ProbabilityType, prediction_paths, write_classes, write_prediction

__all__ = [
    "Averaged",
    "ImageProgress",
    "OutputFormat",
    "PrepareImaged",
    "ProbabilityType",
    "ReadImaged",
    "SavePredictiond",
    "ToProbabilityd",
    "WindowInferer",
    "average_networks",
    "find_images",
    "load_network",
    "load_stain",
    "network_input",
    "predict",
    "predict_classes",
    "prediction_paths",
    "working_factor",
    "write_classes",
    "write_prediction",
]
