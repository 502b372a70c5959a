"""What this package needs, for those who get its code without its wheel."""

import importlib.metadata

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
    "joblib",
    "tqdm",
    "fire",
    "jsonschema",
)
"""By the names of pyproject.toml."""


def pinned_requirements() -> list[str]:
    """The versions in use here; a build such as `2.13.0+cpu` is asked for as the release 2.13.0.

    `cvm-monai` is not among them: no index need have it, and its code travels along.
    """
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in REQUIREMENTS]
