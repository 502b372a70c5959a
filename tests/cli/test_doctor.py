import json
import subprocess
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from cvm_monai.cli import doctor
from cvm_monai.cli.doctor import Finding
from cvm_monai.cli.main import main


@pytest.mark.parametrize(
    "version, status", [((3, 10), "FAIL"), ((3, 11), "PASS"), ((3, 13), "PASS"), ((3, 14), "WARN")]
)
def test_python_version(version, status):
    finding = doctor.check_python(version)
    assert finding.status == status
    assert bool(finding.fix) == (status != "PASS")


def test_packages_are_compared_with_what_is_asked_for(monkeypatch):
    installed = {"torch": "2.13.0+cpu", "monai": "1.4.0", "mlflow": "3.17.2"}

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda _: ["torch<3,>=2.8", "monai<1.7,>=1.6", "numpy<3"])
    findings = list(doctor.check_packages())
    assert findings[0] == Finding("PASS", "torch 2.13.0+cpu")
    assert findings[1] == Finding("WARN", "MONAI 1.4.0 is not <1.7,>=1.6", "pip install 'monai<1.7,>=1.6'")
    assert Finding("FAIL", "NumPy is missing", "pip install 'numpy<3'") in findings
    assert Finding("FAIL", "SciPy is missing", "pip install 'scipy'") in findings
    assert Finding("PASS", "MLflow 3.17.2") in findings


@pytest.mark.parametrize(
    "code, out, err, finding",
    [
        (0, "NVIDIA X\n", "", Finding("PASS", "CUDA on NVIDIA X")),
        (1, "", "Traceback\nImportError: libX\n", Finding(
            "FAIL", "torch does not start: ImportError: libX", "reinstall torch (https://pytorch.org/get-started)")),
    ],
)  # fmt: skip
def test_torch_is_asked_in_its_own_process(monkeypatch, code, out, err, finding):
    answer = subprocess.CompletedProcess([], code, out, err)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert doctor.check_torch() == finding


def test_no_gpu_and_a_hanging_torch(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "\n", ""))
    assert doctor.check_torch().what == "no CUDA GPU: training runs on the processor, slowly"

    def hang(*_, **__):
        raise subprocess.TimeoutExpired("torch", 120)

    monkeypatch.setattr(subprocess, "run", hang)
    assert doctor.check_torch().status == "FAIL"


def test_the_solver_s_compiled_loops_are_optional():
    slow = Finding("WARN", "the solver runs in NumPy, several times slower", "pip install 'cvm-monai[fast]'")
    assert doctor.check_solver(False) == slow


def test_the_solver_s_compiled_loops_are_found(monkeypatch):
    monkeypatch.setattr(metadata, "version", {"numba": "0.68.1"}.get)
    assert doctor.check_solver(True) == Finding("PASS", "compiled solver: numba 0.68.1")


def test_threads():
    assert doctor.check_threads("1", cores=2) == Finding("PASS", "OMP_NUM_THREADS=1 on 2 cores")
    assert doctor.check_threads(None, cores=2).status == "WARN"


@pytest.mark.parametrize("free, status", [(4.9, "WARN"), (5.1, "PASS")])
def test_disk(monkeypatch, free, status):
    usage = namedtuple("usage", "free")(free * 2**30)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert doctor.check_disk(Path("x")).status == status


def test_data_set(tmp_path):
    assert doctor.check_data(tmp_path).what == f"no data set in {tmp_path}"
    (tmp_path / "a.png").touch()
    case = {"case_id": "a", "patient_id": "p", "image": "a.png", "points": None, "sha256": {}, "fold": 0}
    data = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": [case]}
    (tmp_path / "datalist.json").write_text(json.dumps(data))
    assert doctor.check_data(tmp_path) == Finding("PASS", f"1 cases in {tmp_path / 'datalist.json'}")
    (tmp_path / "a.png").unlink()
    assert doctor.check_data(tmp_path).what.endswith("a.png does not exist; prepare the data again if it has moved")


@pytest.mark.parametrize("status, code", [("PASS", 0), ("WARN", 0), ("FAIL", 1)])
def test_exit_code_follows_failures_only(monkeypatch, capsys, status, code):
    findings = [Finding("PASS", "first"), Finding(status, "second", "mend it")]
    monkeypatch.setattr(doctor, "examine", lambda _: iter(findings))
    assert main(["doctor"]) == code
    assert capsys.readouterr().out == f"PASS  first\n{status}  second\n      fix: mend it\n"
