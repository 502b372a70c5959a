"""Read and check the files of a finished training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvm_monai.data.datalist import CLASSES, FILE_NAME
from cvm_monai.errors import CvmError
from cvm_monai.networks import NAMED_NETWORKS
from cvm_monai.networks.extractor_names import is_name
from cvm_monai.runs.folder import check_recorded

TEST = "test_"
"""Prefix of the names of an evaluation's values."""


@dataclass(frozen=True)
class Trained:
    """Files and record of a finished training.

    Attributes:
        output: its output folder.
        weights: its `model.pt`.
        record: its `run.json`.
        classes: names, by class number.
    """

    output: Path
    weights: Path
    record: Mapping[str, Any]
    classes: tuple[str, ...]

    @property
    def knobs(self) -> Mapping[str, Any]:
        """The knobs of the run."""
        knobs: Mapping[str, Any] = self.record["knobs"]
        return knobs

    @property
    def fold(self) -> str:
        """The test fold, as text."""
        return str(self.knobs.get("fold"))


def read_trained(output_dir: str | Path, *, bundle: Path | None = None) -> Trained:
    """Read the training of an output folder.

    Args:
        bundle: with which it may have been run, beside the package's own: the weights of a bundle's default output
            folder, `eval`, are in the bundle's `models`.

    Raises:
        CvmError: a missing folder, no finished training in it, or a network that needs a further file.
    """
    output = Path(output_dir)
    record = _read_record(output)
    if record.get("status") != "FINISHED":
        raise CvmError(f"the training in {output} is {record.get('status', 'unknown')}, not FINISHED: train again")
    network, extractor = record["knobs"].get("network"), record["knobs"].get("extractor_path")
    if network in NAMED_NETWORKS and not is_name(extractor):
        raise CvmError(
            f"the network of {output} is a {network!r}, which needs its extractor's file: train it on an extractor by "
            "name (--extractor_path imagenet), or another --network"
        )
    return Trained(output, _weights(output, bundle), record, _classes(output, record))


def _weights(output: Path, bundle: Path | None) -> Path:
    """Find the weights of a training run with `bundle`, else with the package's own bundle."""
    from cvm_monai.engines.workflow import bundle_root, models_dir

    roots = ([] if bundle is None else [str(bundle)]) + [bundle_root()]
    places = [Path(models_dir(bundle_root=root, output_dir=str(output))) / "model.pt" for root in roots]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise CvmError(f"there is no trained network at {places[0]}: train again")
    return found


def _read_record(output: Path) -> dict[str, Any]:
    file = output / "run.json"
    if not file.is_file():
        raise CvmError(f"there is no training in {output} (no run.json): give the run folder of one")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        knobs = dict(record["knobs"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CvmError(f"{file} is not a record of a training ({error}): train again") from error
    for name, value in knobs.items():
        check_recorded(file, name, value)
    return dict(record)


def _classes(output: Path, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Read the class names from the data list; without it, use the default two names or numbers."""
    try:
        found = json.loads((output / FILE_NAME).read_text(encoding="utf-8"))["classes"]
        return tuple(sorted(found, key=found.__getitem__))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        further = range(len(CLASSES), record["knobs"].get("classes") or 2)
        return (*CLASSES, *(f"class {number}" for number in further))
