"""The Triton kernels, run by Triton's interpreter on the CPU, against the NumPy steps; and compiled for a GPU."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from cvm_monai.variational import aos_step, primal_dual

assert "triton" not in sys.modules, "imported before its interpreter was asked for, perhaps by torch._dynamo: by whom?"
with pytest.MonkeyPatch.context() as patch:
    patch.setenv("TRITON_INTERPRET", "1")  # read when the kernels, and Triton's own functions, are defined
    pytest.importorskip("triton", reason="it comes with CUDA builds of torch; `make test-ci` installs it elsewhere")
    from cvm_monai.variational import fused

pytestmark = pytest.mark.ci


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    """Helpers of a kernel are defined anew at its first call."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")


TYPES = [(np.float64, 1e-12), (np.float32, 2e-6)]
SHAPES = [(2, 20, 70), (1, 1, 9), (2, 9, 1), (1, 40, 33)]


def step_input(shape, dtype):
    rng = np.random.default_rng(0)
    u, f, g = rng.random(shape) * 1.04 - 0.02, rng.normal(size=shape), 0.1 + rng.random(shape)
    return [part.astype(dtype) for part in (u, f, g, 1 + rng.random((shape[0], 1, 1)))]


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_two_sweeps_are_an_aos_step(shape, dtype, tolerance):
    u, f, g, alpha = step_input(shape, dtype)
    tensors = [torch.from_numpy(part) for part in (u, f, g)]
    settings = {"tau": 0.02, "beta": 1e-5, "alpha": torch.from_numpy(alpha)}
    down = fused.sweep_down(*tensors, **settings)
    along = fused.sweep_down(*(part.mT.contiguous() for part in tensors), **settings)
    expected = aos_step(u, f, g, tau=0.02, beta=1e-5, alpha=alpha)
    np.testing.assert_allclose((down + along.mT) / 2, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_primal_dual_steps_and_their_gap_equal_numpy_s(shape, dtype, tolerance):
    results = []
    for steps, kind in ((primal_dual, np.copy), (fused, lambda part: torch.from_numpy(part.copy()))):
        u, f, g, _ = (kind(part) for part in step_input(shape, dtype))
        u = u.clip(0, 1)
        dual = primal_dual.start_dual(u)
        for _ in range(5):
            steps.primal_dual_step(u, dual, f, g, ratio=0.6)
        results.append([u, dual.down, dual.along, dual.extrapolated, steps.relative_gap(u, dual, f, g)])
    for expected, found in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from cvm_monai.variational import fused

NUMBERS = dict.fromkeys(("height", "width"), "i32")
SIZES = {"BLOCK": 256, "STEP": 0.35, "CURVATURE": 161.7, "PENALTY": 0.01}
for kernel in (fused._sweep_kernel, fused._dual_kernel, fused._primal_kernel, fused._gap_kernel):
    for kind in ("fp32", "fp64"):
        signature = {}
        for name in kernel.arg_names:
            number = "fp32" if name.endswith(("_high", "_low")) else NUMBERS.get(name, "*" + kind)
            signature[name] = "constexpr" if name in SIZES else "*fp64" if name == "sums_" else number
        constants = {name: SIZES[name] for name in kernel.arg_names if name in SIZES}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
        built = compile(source, target=GPUTarget("cuda", 90, 32))
        print(kernel.__name__, kind, len(built.asm["cubin"]) > 0)
"""


def test_every_kernel_compiles_for_a_gpu_in_both_types(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    kernels = ("_sweep_kernel", "_dual_kernel", "_primal_kernel", "_gap_kernel")
    assert done.stdout.split("\n")[:-1] == [f"{name} {kind} True" for name in kernels for kind in ("fp32", "fp64")]
