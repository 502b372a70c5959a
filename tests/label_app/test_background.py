"""What a request may hand to a process of MONAI Label."""

import os
from types import SimpleNamespace

import pytest

from cvm_monai.label_app.background import checked_request, secure_background_tasks

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
