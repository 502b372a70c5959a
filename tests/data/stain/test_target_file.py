"""The target beside the weights: as it was, or a sentence that says what is wrong with it."""

import json

import numpy as np
import pytest

from cvm_monai.data.stain import fit_target, read_target, stored_method, stored_target, write_target

from .conftest import tissue


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_a_target_is_read_as_it_was_written(tmp_path, method):
    target = fit_target([tissue(), np.full((8, 8, 3), 255, np.uint8)], method=method)
    write_target(target, tmp_path / "models" / "stain.json")
    found = read_target(tmp_path / "models" / "stain.json")
    assert (found.method, found.images, found.left_out) == (method, 1, 1)
    for name, array in vars(target.reference).items():
        np.testing.assert_array_equal(getattr(found.reference, name), array)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["stain.json"]


def test_the_stored_target_is_that_of_the_recorded_method(tmp_path):
    write_target(fit_target([tissue()], method="macenko"), tmp_path / "stain.json")
    assert stored_method(folder=tmp_path) == "macenko"
    assert stored_target(folder=tmp_path, method="macenko").method == "macenko"
    assert stored_target(folder=tmp_path, method="none") is None
    assert stored_method(folder=tmp_path / "elsewhere") == "none"


@pytest.mark.parametrize(
    "method, sentence",
    [
        ("reinhard", r"stain\.json is a target of macenko, the network was trained with reinhard: train again"),
        ("magic", "--stain_normalisation must be one of none, macenko, reinhard, got 'magic'"),
    ],
)
def test_another_method_than_the_training_s_is_refused(tmp_path, method, sentence):
    write_target(fit_target([tissue()], method="macenko"), tmp_path / "stain.json")
    with pytest.raises(ValueError, match=sentence):
        stored_target(folder=tmp_path, method=method)


def test_a_missing_target_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"trained with --stain_normalisation macenko, but .*stain\.json is missing"):
        stored_target(folder=tmp_path, method="macenko")


@pytest.mark.parametrize(
    "change",
    [
        {"method": "other"},
        {"vectors": [[1, 2, 3]]},
        {"strongest": None},
        {"strongest": [1, float("nan")]},
        {"images": None},
    ],
)
def test_a_damaged_target_is_named(tmp_path, change):
    path = tmp_path / "stain.json"
    write_target(fit_target([tissue()], method="macenko"), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"stain\.json holds no stain target .*: train again, or restore it"):
        read_target(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="holds no stain target"):
        read_target(path)
