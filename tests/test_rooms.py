"""Imports go one way: no module imports one that leads back to it, and `runs` imports no room above it."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted(file.parent.name for file in (ROOT / "cvm_monai").glob("*/__init__.py"))
BELOW_RUNS = {"errors", "files", "knobs", "data", "supervision", "figures"}


@cache
def imports(module):
    """The modules of the package that a module imports, also within functions and for types alone."""
    file = ROOT / (module.replace(".", "/") + ".py")
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cvm_monai"):
            inner = [f"{node.module}.{name.name}" for name in node.names]
            found |= {name for name in inner if (ROOT / (name.replace(".", "/") + ".py")).is_file()} or {node.module}
    return found


def modules(room):
    folder = ROOT / "cvm_monai" / room
    return [f"cvm_monai.{room}.{file.stem}" for file in sorted(folder.glob("*.py")) if file.stem != "__init__"]


def test_there_are_rooms():
    assert {"slides", "runs", "files"} <= set(ROOMS)
    assert len(modules("slides")) >= 10


@pytest.mark.parametrize("room", ROOMS)
def test_no_module_of_a_room_leads_back_to_itself(room):
    inside = {module: imports(module) & set(modules(room)) for module in modules(room)}
    while free := [module for module, needed in inside.items() if not needed & set(inside)]:
        for module in free:
            del inside[module]
    assert sorted(inside) == []


def test_the_record_of_runs_is_below_what_it_records():
    rooms = {name.split(".")[1] for module in modules("runs") for name in imports(module)}
    assert "files" in rooms
    assert rooms <= BELOW_RUNS | {"runs"}
