"""What the configurations name by `_target_` is something to call, on every supported Python."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvm_monai.configs import read_config

BUNDLE = Path(__file__).parents[2] / "bundle"
CONFIGS = [file for file in sorted((BUNDLE / "configs").iterdir()) if "_target_: cvm_monai." in file.read_text()]


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` of ours within a configuration."""
    if isinstance(node, dict):
        if str(node.get("_target_", "")).startswith(("cvm_monai.", "scripts.")):
            yield node["_target_"]
        for part in node.values():
            yield from targets(part)
    elif isinstance(node, list):
        for part in node:
            yield from targets(part)


@pytest.fixture
def scripts_found(monkeypatch):
    """The bundle's scripts can be imported, and are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(BUNDLE))
    before = set(sys.modules)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "scripts" and name not in before]:
        del sys.modules[name]


@pytest.mark.usefixtures("scripts_found")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_no_target_shares_its_name_with_a_module(config):
    """Where both are there, Python 3.12's pydoc.locate finds the module, and MONAI passes over what is not callable."""
    for target in set(targets(read_config(config))):
        where, _, name = target.rpartition(".")
        module = importlib.import_module(where)
        assert callable(getattr(module, name)), target
        assert not hasattr(module, "__path__") or importlib.util.find_spec(target) is None, target
