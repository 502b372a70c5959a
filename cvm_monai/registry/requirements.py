"""What this package needs, for those who get its code without its wheel."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from cvm_monai.networks import NAMED_NETWORKS
from cvm_monai.networks.extractor_names import is_timm

REQUIREMENTS = (
    "torch",
    "monai",
    "numpy",
    "scipy",
    "array-api-compat",
    "nibabel",
    "pytorch-ignite",
    "tifffile",
    "imagecodecs",
    "mlflow",
    "openslide-python",
    "openslide-bin",
    "shapely",
    "defusedxml",
    "scikit-image",
    "pillow",
    "matplotlib",
    "filelock",
    "jinja2",
    "lazy-loader",
    "pyyaml",
    "joblib",
    "tqdm",
    "fire",
    "jsonschema",
)
"""By the names of pyproject.toml."""


def requirements_of(knobs: Mapping[str, Any]) -> tuple[str, ...]:
    """What the network of a training needs: timm too, where its extractor is one of timm's.

    The weights of an extractor are part of the network's own, so that no package of weights is among them.
    """
    by_timm = knobs.get("network") in NAMED_NETWORKS and is_timm(knobs.get("extractor_path"))
    return (*REQUIREMENTS, "timm") if by_timm else REQUIREMENTS


def pinned_requirements(knobs: Mapping[str, Any]) -> list[str]:
    """The versions in use here; a build such as `2.13.0+cpu` is asked for as the release 2.13.0.

    `cvm-monai` is not among them: no index need have it, and its code travels along.
    """
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in requirements_of(knobs)]
