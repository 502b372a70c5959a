"""Entry point for MONAI Label: `monailabel start_server --app $(cvm-monai label-app) --studies DIR`."""

from cvm_monai.label_app.app import CvmApp

__all__ = ["CvmApp"]
