"""Export a bundle that needs no installed `cvm_monai`: its `scripts` contain the package."""

import importlib.metadata
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cvm_monai.bundle_files import PACKAGE, SUFFIXES, checked_bundle, read_config
from cvm_monai.engines.workflow import CONFIG_FILE
from cvm_monai.errors import CvmError
from cvm_monai.files import replacing, temporary_folder
from cvm_monai.knobs import names
from cvm_monai.registry.package import (
    CLUTTER,
    companions,
    copy_bundle,
    copy_package,
    fitted_metadata,
    portable_knobs,
    requirements_of,
    write_config,
)
from cvm_monai.registry.trained import Trained, read_trained

LEFT_OUT = ("cli", "doctor", "experiments", "registry", "label_app", "annotate", "__main__.py")
"""Parts of the package that no bundle run needs."""
IMPORT = re.compile(rf"^(\s*)(from|import) {PACKAGE.name}\b", re.MULTILINE)
RECORDED = "engines.recorded"
"""Function by which configurations read each knob from the record."""
DATA = ("classes",)
"""Knobs of the data set; like the machine's and the places they keep the bundle's defaults."""

ROOT = (
    f"$str(__import__('pathlib').Path(__import__('re').search({CONFIG_FILE!r}, '\\n'.join([*__import__('sys').argv, "
    "'--config_file', 'configs/inference.json']), 8)[1]).resolve().parent.parent)"
)
"""Expression for the bundle's root before anything of the bundle can be imported: from the command line, else the
working directory; 8 is `re.MULTILINE`."""


def export_bundle(output_dir: str | Path, target: str | Path, *, bundle: Path | None = None) -> Path:
    """Write the network of a finished training as a self-contained bundle, a zip file, replaced atomically.

    Its only folder has the file's name. The configurations have the training's settings as defaults.

    Raises:
        CvmError: the training is not finished, there is no bundle, or the name does not end in `.zip`.
    """
    target = Path(target)
    if target.suffix != ".zip":
        raise CvmError(f"the bundle is written as a zip file: give a name that ends in .zip, not {target.name}")
    source = checked_bundle(bundle)
    trained = read_trained(output_dir, bundle=source)
    with temporary_folder() as folder:
        root = gather(trained, folder / target.stem, bundle=source)
        with replacing(target) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in root.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(folder))
    return target


def gather(trained: Trained, root: Path, *, bundle: Path) -> Path:
    """Write the files of the bundle into a folder."""
    from cvm_monai.inference import load_network

    load_network(trained.output, weights=trained.weights)  # fails here if the weights do not fit
    root.mkdir()
    copy_bundle(bundle, root)
    shutil.copytree(bundle / "scripts", root / "scripts", ignore=CLUTTER)
    package = copy_package(root / "scripts")
    for name in LEFT_OUT:
        part = package / name
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
    for file in (root / "scripts").rglob("*.py"):
        file.write_text(moved_imports(file.read_text(encoding="utf-8")), encoding="utf-8")
    (root / "models").mkdir()
    for file in (trained.weights, *companions(trained)):
        shutil.copy(file, root / "models")
    for file in (root / "configs").iterdir():
        if file.suffix in SUFFIXES:
            write_config(file, _fitted(read_config(file), file.stem, trained))
    return root


def moved_imports(source: str) -> str:
    """Rewrite the imports of Python source to find the package inside `scripts`."""

    def moved(found: re.Match[str]) -> str:
        indent, word = found.groups()
        return (
            f"{indent}from scripts import {PACKAGE.name}"
            if word == "import"
            else f"{indent}from scripts.{PACKAGE.name}"
        )

    return IMPORT.sub(moved, source)


def _fitted(config: dict[str, Any], name: str, trained: Trained) -> dict[str, Any]:
    if name == "metadata":
        return _metadata(config, trained)
    kept = (*names(role="machine"), *DATA)
    knobs = {key: value for key, value in portable_knobs(trained).items() if key not in kept}
    classes = {} if "classes" not in trained.knobs else {"classes": trained.knobs["classes"]}
    fitted: dict[str, Any] = _moved(config, knobs | classes)
    if "trained" in fitted:
        fitted["trained"]["defaults"] = knobs | classes
    if "bundle_root" in fitted:
        fitted["bundle_root"] = ROOT
    if name == "train":
        fitted |= {key: value for key, value in knobs.items() if key in fitted and _is_plain(fitted[key])}
    return fitted


def _moved(value: Any, knobs: Mapping[str, Any]) -> Any:
    """Rewrite targets to those inside `scripts`, and look-ups in the record to defaults with the recorded values."""
    if isinstance(value, list):
        return [_moved(entry, knobs) for entry in value]
    if not isinstance(value, dict):
        return value
    moved = {key: _moved(entry, knobs) for key, entry in value.items()}
    for key, target in value.items():
        if key.endswith("_target_") and isinstance(target, str) and target.startswith(f"{PACKAGE.name}."):
            moved[key] = f"scripts.{target}"  # `a#b#_target_` sets the target of an entry of another file
    if str(value.get("_target_", "")).endswith(RECORDED) and moved["key"] in knobs:
        moved["default"] = knobs[moved["key"]]
    return moved


def _is_plain(value: Any) -> bool:
    """Whether an entry is a plain value, not an expression or reference."""
    return not isinstance(value, dict) and not (isinstance(value, str) and value[:1] in "$@%")


def _metadata(config: dict[str, Any], trained: Trained) -> dict[str, Any]:
    fitted = fitted_metadata(config, trained.classes)
    others = [name for name in requirements_of(trained.knobs) if name not in ("torch", "monai", "numpy")]
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in others}
    return fitted | {"required_packages_version": versions}
