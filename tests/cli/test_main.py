import subprocess
import sys

import pytest

from cvm_monai import __version__
from cvm_monai.cli import doctor
from cvm_monai.cli.main import main
from cvm_monai.errors import CvmError


def test_help_is_short_and_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 36
    commands = [line.split()[0] for line in text.splitlines() if line.startswith("    ") and line.strip()]
    known = (
        "phantom prepare annotate camelyon16 compare ablate predict register export export-bundle label-app "
        "sync-tracking doctor"
    )
    assert [name for name in commands if name in known.split()] == known.split()


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cvm-monai {__version__}\n"


@pytest.mark.parametrize(
    "argv", [[], ["unknown"], ["prepare"], ["prepare", "DIR"], ["phantom", "OUT", "--cases", "many"]], ids=str
)
def test_usage_errors_end_with_2(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("usage: cvm-monai")


@pytest.mark.parametrize(
    "error, code, text",
    [
        (CvmError("first\n  second"), 2, "cvm-monai: error: first second\n"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 2,
         "cvm-monai: error: x.png: No such file or directory\n"),
        (PermissionError(13, "Permission denied", "x"), 2, "cvm-monai: error: x: Permission denied\n"),
        (OSError("odd"), 2, "cvm-monai: error: odd\n"),
        (ModuleNotFoundError("no", name="scipy"), 2,
         "cvm-monai: error: the package scipy is missing: `cvm-monai doctor` says how to install what is needed\n"),
        (MemoryError("Unable to allocate 3 TiB"), 2,
         "cvm-monai: error: there is not enough memory (Unable to allocate 3 TiB): take smaller images or tiles\n"),
        (KeyboardInterrupt(), 130, "cvm-monai: interrupted\n"),
    ],
)  # fmt: skip
def test_failures_end_with_one_sentence(monkeypatch, capsys, error, code, text):
    def fail(_):
        raise error

    monkeypatch.setattr(doctor, "run", fail)
    assert main(["doctor"]) == code
    assert capsys.readouterr().err == text


def test_a_mistake_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(doctor, "run", lambda _: int("x"))
    with pytest.raises(ValueError, match="invalid literal for int"):
        main(["doctor"])


def test_module_runs_as_a_command_and_imports_nothing_heavy():
    code = "import sys; from cvm_monai.cli import main as m; m.main(['--version']); print({'numpy'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"cvm-monai {__version__}\nset()\n"
    run = subprocess.run([sys.executable, "-m", "cvm_monai", "nothing"], capture_output=True, text=True, check=False)
    assert run.returncode == 2


def test_help_of_every_command_imports_the_standard_library_and_this_package_alone():
    """So that it comes at once; the package itself needs `lazy_loader` alone."""
    code = (
        "import sys; before = {*sys.modules}; from cvm_monai.cli import main as m\n"
        "names = [c.__name__.rsplit('.', 1)[1].replace('_', '-') for c in m.COMMANDS]\n"
        "codes = {m.main([name, '--help']) for name in names} | {m.main(['--help'])}\n"
        "parts = {name.partition('.')[0] for name in {*sys.modules} - before} - {*sys.stdlib_module_names}\n"
        "print(); print(len(names) > 9, codes, parts - {'lazy_loader'})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "True {0} {'cvm_monai'}"


def test_preparing_needs_neither_torch_nor_monai():
    code = (
        "import sys, cvm_monai.data.prepare, cvm_monai.annotations, cvm_monai.slides, cvm_monai.cli.doctor\n"
        "print({'torch', 'monai', 'mlflow', 'ignite'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
