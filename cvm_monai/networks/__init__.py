"""Segmentation networks: logits from `forward`, logits and Feature Map 2 from `features` (Fig. 2a).

Importing this package loads neither torch nor MONAI; building a network does.
"""

from cvm_monai.networks.factory import NETWORK_NAMES, NetworkName, build_network
from cvm_monai.networks.large_images import EncoderNorm, Extraction, LargeImages

__all__ = ["NETWORK_NAMES", "EncoderNorm", "Extraction", "LargeImages", "NetworkName", "build_network"]
