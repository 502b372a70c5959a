"""`import cvm_monai as cvm`: a short list of names, loaded when they are asked for."""

import subprocess
import sys

import numpy as np
import pytest

import cvm_monai as cvm


def test_the_import_loads_no_library_and_takes_no_time():
    code = (
        "import sys, time; start = time.process_time(); import cvm_monai; took = time.process_time() - start; "
        "heavy = {'numpy', 'torch', 'monai', 'mlflow', 'ignite'} & set(sys.modules); assert not heavy; print(took)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1


@pytest.mark.parametrize("name", cvm.__all__)
def test_each_name_is_there(name):
    assert callable(getattr(cvm, name))
    assert name in dir(cvm)


def test_the_list_is_in_order_and_short():
    assert list(cvm.__all__) == sorted(cvm.__all__)
    assert 20 <= len(cvm.__all__) <= 30


def test_a_name_that_is_not_there_says_so():
    with pytest.raises(AttributeError, match="No cvm_monai attribute segmentation"):
        _ = cvm.segmentation


def test_five_lines_draw_u(tmp_path):
    """Features that tell two halves apart; a click in each."""
    features = np.zeros((2, 16, 16), dtype=np.float32)
    features[0, :, :8], features[1, :, 8:] = 1, 1
    u = cvm.segment(features, np.array([[4, 3]]), np.array([[12, 12]])).u
    assert u[:, :7].min() > 0.5 > u[:, 9:].max()
