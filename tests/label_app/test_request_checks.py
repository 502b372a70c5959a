"""What of a request reaches MONAI Label: JSON objects in forms, known keys in background tasks."""

import os
from types import SimpleNamespace

import pytest

from cvm_monai.label_app.request_checks import checked_request, read_object, secure_background_tasks, secure_forms

METHODS = ("train", "batch_infer", "scoring")


@pytest.mark.parametrize("method", METHODS)
def test_no_path_and_nothing_unknown_comes_through(method):
    request = {"model": "cvm", "bundle_path": "/studies/upload.png", "PYTHONPATH": "/x", "gpus": "all"}
    assert checked_request(request, method) == {"model": "cvm", "gpus": "all"}


def test_what_a_task_needs_comes_through():
    train = {"model": "cvm", "max_epochs": 3, "eta": 0.5, "start": "scratch"}
    batch = {"model": "cvm", "images": "unlabeled", "label_tag": "original", "max_batch_size": 0}
    assert checked_request(train, "train") == train
    assert checked_request(batch, "batch_infer") == batch


@pytest.mark.parametrize("gpus", ["all", "0", "0,1,12", "", None])
def test_gpus_are_all_or_numbers(gpus):
    assert checked_request({"gpus": gpus}, "train") == {"gpus": gpus}


@pytest.mark.parametrize("gpus", ["/x", "0;1", "0,", "1\n", ["0"], 0, "all,0", "GPU-1"])
def test_other_gpus_are_refused(gpus):
    with pytest.raises(ValueError, match="gpus must be all, or numbers"):
        checked_request({"gpus": gpus}, "train")


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="there is no background task 'infer'"):
        checked_request({}, "infer")


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"model": ["cvm"]}, "model must be a name"),
        ({"logging": 5}, "logging must be a level"),
        ({"images": "some"}, "images must be one of all, labeled, unlabeled"),
        ({"images": ["a", 3]}, "images must be one of all, labeled, unlabeled"),
        ({"max_batch_size": "2"}, "max_batch_size must be a whole number"),
        ({"max_workers": None}, "max_workers must be a whole number"),
        ({"label_tag": "../x"}, "a tag must consist of letters"),
    ],
)
def test_values_of_another_kind_are_refused(request_, message):
    with pytest.raises(ValueError, match=message):
        checked_request(request_, "batch_infer")


def test_what_would_fail_later_is_refused_where_it_is_accepted():
    started = []
    utils = SimpleNamespace(
        run_background_task=lambda request, method: started.append(method), _task_func=lambda *_: None
    )

    def check(request, method):
        raise ValueError(f"{method} of {request['model']} would fail")

    secure_background_tasks(utils, check=check)
    with pytest.raises(ValueError, match="train of cvm would fail"):
        utils.run_background_task({"model": "cvm"}, "train")
    secure_background_tasks(utils, check=None)  # another app of the same process
    utils.run_background_task({"model": "cvm"}, "train")
    assert started == ["train"]


def test_tasks_are_checked_where_they_are_accepted_and_where_they_start():
    seen = []
    utils = SimpleNamespace(
        run_background_task=lambda request, method, callback=None: seen.append((request, method)),
        _task_func=lambda task, method, callback=None: seen.append((task["request"], method)),
    )
    importer = SimpleNamespace(run_background_task=utils.run_background_task)
    secure_background_tasks(utils, importer)
    once = utils.run_background_task
    secure_background_tasks(utils, importer)
    assert utils.run_background_task is importer.run_background_task is once
    importer.run_background_task({"model": "cvm", "bundle_path": "/x"}, "train")
    utils._task_func({"id": "1", "request": {"model": "cvm", "bundle_path": "/x"}}, "batch_infer")
    assert seen == [({"model": "cvm"}, "train"), ({"model": "cvm"}, "batch_infer")]


@pytest.mark.parametrize("method", METHODS)
def test_the_process_that_starts_has_the_servers_own_path(monailabel, method, tmp_path, monkeypatch):
    from monailabel.utils.async_tasks import task as async_task
    from monailabel.utils.async_tasks import utils

    for module, name in ((utils, "run_background_task"), (utils, "_task_func"), (async_task, "run_background_task")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    environments = []

    def started(command, *, env, **_):
        environments.append(env)
        raise InterruptedError("no process is started here")

    monkeypatch.setattr(utils.subprocess, "Popen", started)
    monkeypatch.setenv("PYTHONPATH", "own")
    secure_background_tasks(utils, async_task)
    with pytest.raises(InterruptedError):
        async_task.run_background_task({"model": "cvm", "bundle_path": str(tmp_path)}, method, debug=True)
    assert [env["PYTHONPATH"] for env in environments] == ["own"]
    assert os.environ["PYTHONPATH"] == "own"


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
