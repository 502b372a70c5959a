"""Read and check the server's settings, given as `--conf NAME VALUE`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvm_monai.annotations import read_class_map
from cvm_monai.annotations.labels import class_names
from cvm_monai.bundle_files import BESIDE, bundle_folder
from cvm_monai.errors import CvmError
from cvm_monai.label_app.outputs import predicted_names

PLUGIN_CLASSES = {"Positive": "target", "Negative": "background"}
"""Classes to which QuPath's plug-in gives a meaning, unless the class map gives them another."""

KNOWN = (
    "model",
    "work",
    "bundle",
    "classes",
    "unclassified",
    "image_mpp",
    "device",
    "follow_links",
    "max_image_mib",
    "max_label_mib",
    "server_mode",
)


@dataclass(frozen=True)
class AppSettings:
    """The checked settings of the app.

    Attributes:
        work: folder of trainings, of the data list, and of the pointer to the current network.
        model: output folder of the training to start with; None for the last one made here, the bundle's, or none.
        bundle: folder that holds `configs/train.yaml`.
        classes: class map for uploaded annotations, including the names of predictions and `PLUGIN_CLASSES`.
        names: class names by number.
        image_mpp: micrometres per pixel of images whose files do not state it; None where unknown.
        device: to compute on.
        follow_links: accept images and labels that are links out of the studies folder.
    """

    work: Path
    model: Path | None
    bundle: Path
    classes: Mapping[str, Any]
    names: tuple[str, ...]
    image_mpp: float | None
    device: str
    follow_links: bool


def read_settings(conf: Mapping[str, Any], *, studies: str | Path) -> AppSettings:
    """Check the settings. By default `work` is `cvm_monai/` in the studies folder, `bundle` the package's own.

    Raises:
        CvmError: an unknown name, or an invalid value.
    """
    unknown = sorted(set(conf) - set(KNOWN))
    if unknown:
        raise CvmError(f"--conf {unknown[0]} is unknown; supported are {', '.join(KNOWN)}")
    given = read_class_map(conf.get("classes"), unclassified=conf.get("unclassified")) or {}
    names = tuple(class_names(given))
    predicted = {predicted_name: label for label, predicted_name in enumerate(predicted_names(names))}
    model = conf.get("model")
    return AppSettings(
        work=Path(conf.get("work") or Path(studies) / "cvm_monai").expanduser().resolve(),
        model=None if not model else Path(model).expanduser().resolve(),
        bundle=_bundle(conf.get("bundle")),
        classes=_unless_given({**predicted, **PLUGIN_CLASSES}, given) | given,
        names=names,
        image_mpp=_mpp(conf.get("image_mpp")),
        device=str(conf.get("device") or _best_device()),
        follow_links=_switch(conf.get("follow_links", "false")),
    )


def _unless_given(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries whose names the given map lacks, ignoring case."""
    names = {str(name).strip().lower() for name in given}
    return {name: meaning for name, meaning in known.items() if name.lower() not in names}


def _bundle(given: str | None) -> Path:
    """Return the given bundle, else the package's own, which an installed package contains."""
    return Path(given).expanduser().resolve() if given else bundle_folder() or BESIDE


def _mpp(text: Any) -> float | None:
    if text in (None, ""):
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1000:
        raise CvmError(f"--conf image_mpp must be micrometres per pixel, such as 0.5, got {text!r}")
    return value


def _switch(text: Any) -> bool:
    if str(text).lower() not in ("true", "false"):
        raise CvmError(f"--conf follow_links must be true or false, got {text!r}")
    return str(text).lower() == "true"


def _best_device() -> str:
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"
