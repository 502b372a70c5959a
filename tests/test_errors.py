"""The exception of this package, and what its code and the bundle's scripts do not do."""

import ast
import pickle
from pathlib import Path

import pytest

from cvm_monai.errors import CvmError

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "cvm_monai").rglob("*.py"), *(ROOT / "bundle" / "scripts").rglob("*.py")])
FRAMES = {
    "_getframe", "_current_frames", "currentframe", "getouterframes", "getinnerframes", "walk_stack", "walk_tb",
    "extract_stack", "tb_frame", "f_back", "f_locals", "f_globals", "f_code", "cr_frame", "gi_frame", "ag_frame",
    "co_code", "_co_code_adaptive", "tb_lasti", "get_referrers", "get_objects",
}  # fmt: skip
"""Names by which Python gives the frames of callers and their variables, byte code, or objects that nobody passed."""


def parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def introspection(tree: ast.AST) -> list[str]:
    """Names in a module that read stack frames or byte code."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            found += [name] if name in FRAMES else []
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "inspect.stack":
                found.append("inspect.stack")
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name == "dis"]
        elif isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if alias.name in FRAMES or node.module == "dis"]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [name for name in FRAMES if name in node.value]  # an expression of a configuration
    return found


def test_there_are_sources_to_look_at():
    names = {str(path.relative_to(ROOT)) for path in SOURCES}
    assert {"cvm_monai/errors.py", "cvm_monai/engines/workflow.py", "bundle/scripts/errors.py"} <= names


@pytest.mark.parametrize(
    "source, found",
    [
        ("import sys\nsys._getframe(1)", ["_getframe"]),
        ("from inspect import currentframe", ["currentframe"]),
        ("import inspect\ninspect.stack()", ["inspect.stack"]),
        ("error.__traceback__.tb_frame.f_locals", ["f_locals", "tb_frame"]),
        ("import dis", ["dis"]),
        ('A = "$walk_stack(None)"', ["walk_stack"]),
        ("import traceback, numpy as np\nnp.stack([traceback.format_exc()])", []),
    ],
)
def test_reading_of_frames_and_byte_code_is_seen(source, found):
    assert sorted(introspection(ast.parse(source))) == found


def test_what_code_needs_is_handed_to_it():
    assert {str(path): found for path in SOURCES if (found := introspection(parsed(path)))} == {}


def built_in_errors(tree: ast.AST) -> list[int]:
    """Lines where a module raises, makes or derives from the built-in ValueError."""
    used: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            used.append(node.exc)
        elif isinstance(node, ast.Call):
            used.append(node.func)
        elif isinstance(node, ast.ClassDef) and node.name != CvmError.__name__:
            used += node.bases
    return sorted({node.lineno for node in used if isinstance(node, ast.Name) and node.id == "ValueError"})


@pytest.mark.parametrize(
    "source, lines",
    [
        ("raise ValueError", [1]),
        ("\nraise ValueError('x') from None", [2]),
        ("error = ValueError('x')", [1]),
        ("class A(ValueError): pass", [1]),
        ("class CvmError(ValueError): pass", []),
        ("try:\n    f()\nexcept ValueError:\n    raise", []),
    ],
)
def test_a_built_in_error_that_is_raised_is_seen(source, lines):
    assert built_in_errors(ast.parse(source)) == lines


def test_what_is_raised_on_purpose_is_our_error():
    assert {str(path): lines for path in SOURCES if (lines := built_in_errors(parsed(path)))} == {}


def test_our_error_is_a_value_error_that_passes_between_processes():
    error = CvmError("--lam must be a number greater than 0, got -1")
    assert isinstance(error, ValueError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is CvmError
    assert copy.args == error.args
