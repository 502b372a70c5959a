"""What the configurations name by `_target_` is something to call, on every supported Python."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvm_monai.bundle_files import read_config

BUNDLE = Path(__file__).parents[2] / "bundle"


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` of ours within a configuration, also where the key overrides one: `part#_target_`."""
    if isinstance(node, dict):
        for key, part in node.items():
            if key.rpartition("#")[2] == "_target_" and str(part).startswith(("cvm_monai.", "scripts.")):
                yield part
            yield from targets(part)
    elif isinstance(node, list):
        for part in node:
            yield from targets(part)


FILES = sorted(path for path in (BUNDLE / "configs").iterdir() if path.suffix in (".json", ".yaml", ".yml"))
TARGETS = {path.stem: sorted(set(targets(read_config(path)))) for path in FILES}
"""By configuration."""


def test_the_configurations_with_parts_of_ours_are_known_and_the_others_hold_values_only():
    with_parts = {"train", "evaluate", "inference", "inference_wsi", "multi_gpu_train"}
    assert {name for name, found in TARGETS.items() if found} == with_parts
    values_only = {"camelyon16", "centred_probe", "colorectal", "paper", "metadata", "tracking_mlflow"}
    assert set(TARGETS) == with_parts | values_only
    assert "cvm_monai.engines.SharedEvaluator" in TARGETS["multi_gpu_train"]  # by an override


@pytest.fixture
def scripts_found(monkeypatch):
    """The bundle's scripts can be imported, and are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(BUNDLE))
    before = set(sys.modules)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts" and name not in before]:
        del sys.modules[name]


@pytest.mark.usefixtures("scripts_found")
@pytest.mark.parametrize("target", sorted({target for found in TARGETS.values() for target in found}))
def test_no_target_shares_its_name_with_a_module(target):
    """Where both are there, Python 3.12's pydoc.locate finds the module, and MONAI passes over what is not callable."""
    where, _, name = target.rpartition(".")
    module = importlib.import_module(where)
    assert callable(getattr(module, name))
    assert not hasattr(module, "__path__") or importlib.util.find_spec(target) is None
