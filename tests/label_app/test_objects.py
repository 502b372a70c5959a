"""JSON in the forms of requests."""

from types import SimpleNamespace

import pytest

from cvm_monai.label_app.objects import read_object, secure_forms


@pytest.mark.parametrize("text", ["[1, 2]", "3", '"x"', "true", "{", "", "[" * 100_000])
def test_other_json_than_an_object_is_refused(text):
    with pytest.raises(ValueError, match=r"parameters must be a JSON object such as .*, got"):
        read_object(text)


def test_null_is_no_parameter():
    assert read_object("null") == {}
    assert read_object('{"eta": 0.5}') == {"eta": 0.5}


def test_the_end_points_read_objects_and_write_as_before():
    module = SimpleNamespace()
    secure_forms(module)
    assert module.json.dumps([1]) == "[1]"
    with pytest.raises(ValueError, match="parameters must be a JSON object"):
        module.json.loads("[1]")


def test_an_image_that_was_not_made_is_not_sent():
    module = SimpleNamespace(send_response=lambda datastore, result, output, tasks: output)
    secure_forms(module)
    secure_forms(module)
    assert module.send_response(None, {"file": "x"}, "image", None) == "image"
    assert module.send_response(None, {"file": None}, "json", None) == "json"
    with pytest.raises(ValueError, match="output=image asks for a file"):
        module.send_response(None, {"file": None, "label": None}, "image", None)
