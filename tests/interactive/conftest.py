"""The benchmarks about clicks as modules: they are scripts, not part of the package."""

import importlib.util
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark(request):
    """The benchmark named by the test module's BENCHMARK."""
    name = request.module.BENCHMARK
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
