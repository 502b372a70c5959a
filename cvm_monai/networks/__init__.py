"""Segmentation networks: logits from `forward`, logits and Feature Map 2 from `features` (Fig. 2a).

Importing this package loads neither torch nor MONAI; building a network does.
"""

from cvm_monai.knobs import EncoderNorm, Extraction, FeatureDtype, NetworkName, Normalisation
from cvm_monai.networks.factory import FROZEN_NETWORKS, NAMED_NETWORKS, NETWORK_NAMES, build_network
from cvm_monai.networks.feature_store import FeatureStore
from cvm_monai.networks.large_images import LargeImages

__all__ = [
    "FROZEN_NETWORKS",
    "NAMED_NETWORKS",
    "NETWORK_NAMES",
    "EncoderNorm",
    "Extraction",
    "FeatureDtype",
    "FeatureStore",
    "LargeImages",
    "NetworkName",
    "Normalisation",
    "build_network",
]
