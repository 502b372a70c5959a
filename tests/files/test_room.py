"""The room of files is the ground: it imports no other room, is cheap, and what it does stands nowhere else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "cvm_monai" / "files"
SOURCES = sorted([*(ROOT / "cvm_monai").rglob("*.py"), *(ROOT / "bundle" / "scripts").rglob("*.py")])
MODULES = ("tempfile", "fcntl")
MOVES = ("replace", "rename", "renames", "flock", "lockf")
"""Functions of `os`, `shutil` and `fcntl`, and methods of paths."""


def offences(source):
    """What a module does that is the room's: (line, what)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names if name.name in MODULES]
        elif isinstance(node, ast.ImportFrom):
            moves = [f"{node.module}.{name.name}" for name in node.names if node.module == "os" and name.name in MOVES]
            found += [(node.lineno, name) for name in ([node.module] if node.module in MODULES else moves)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _moves(node, node.func):
            found.append((node.lineno, ast.unparse(node.func)))
    return found


def _moves(call, function):
    """Whether a call renames a file: texts are replaced with two arguments, times and dataclasses by keywords."""
    if isinstance(function.value, ast.Name) and function.value.id in ("os", "shutil", "fcntl"):
        return function.attr in (*MOVES, "move")
    return function.attr in MOVES and len(call.args) == 1 and not call.keywords


@pytest.mark.parametrize(
    "source, what",
    [
        ("import tempfile", "tempfile"),
        ("from tempfile import mkdtemp", "tempfile"),
        ("def f():\n    import fcntl", "fcntl"),
        ("from os import replace", "os.replace"),
        ("os.replace(a, b)", "os.replace"),
        ("os.rename(a, b)", "os.rename"),
        ("shutil.move(a, b)", "shutil.move"),
        ("path.replace(target)", "path.replace"),
        ("(a / b).rename(c)", "(a / b).rename"),
    ],
)
def test_each_way_of_doing_it_by_hand_is_seen(source, what):
    assert [name for _, name in offences(source)] == [what]


def test_texts_times_and_dataclasses_may_be_replaced():
    assert offences("text.replace('a', 'b'); now.replace(tzinfo=None); replace(options, a=1)") == []


def test_files_are_replaced_locked_and_made_for_a_while_in_one_room_alone():
    assert len(SOURCES) > 200
    found = [
        f"{file.relative_to(ROOT)}:{line}: {what}"
        for file in SOURCES
        if ROOM not in file.parents
        for line, what in offences(file.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_it_imports_the_errors_alone_and_neither_torch_nor_monai():
    script = (
        "import sys; import cvm_monai.files\n"
        "ours = {name for name in sys.modules if name.startswith('cvm_monai.')}\n"
        "rooms = {name for name in ours if not name.startswith(('cvm_monai.files', 'cvm_monai.errors'))}\n"
        "print(rooms, {'torch', 'monai', 'numpy', 'filelock'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set() set()"


def test_what_it_offers_is_there():
    import cvm_monai.files as room

    assert sorted(room.__all__) == sorted(set(room.__all__))
    assert [name for name in room.__all__ if not hasattr(room, name)] == []
