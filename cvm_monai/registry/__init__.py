"""Publish trained networks: MLflow's model registry, ONNX and `.pt2` files, self-contained bundles.

Importing this package does not load MLflow; using it does.
"""

from cvm_monai.registry.register import RegisteredVersion, RegistrationRequest, register

__all__ = ["RegisteredVersion", "RegistrationRequest", "register"]
