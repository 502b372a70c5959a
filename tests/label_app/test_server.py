"""A client's session with the real server: MONAI Label 0.8.5 and this app, on loopback."""

import io
import json
import sqlite3
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image

from cvm_monai.annotations import rasterise_regions, read_annotations

pytestmark = pytest.mark.ci
"""The tests run in the order of the file: each goes on where the one before it ended."""

CLICKS = {"foreground": [[40, 32], [50, 30]], "background": [[5, 5], [90, 60]]}
PREDICTED = {"target (predicted)": "target"}


def disc():
    y, x = np.mgrid[:64, :96]
    return (y - 32) ** 2 + (x - 40) ** 2 < 20**2


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def params(**values):
    return {"params": json.dumps(values)}


def test_it_listens_on_loopback_alone(server):
    listening = subprocess.run(["ss", "-ltn"], capture_output=True, text=True).stdout if sys.platform == "linux" else ""
    if listening:
        assert f"127.0.0.1:{server.port}" in listening
        assert f"0.0.0.0:{server.port}" not in listening
    assert server.ask("GET", "/info/", headers={"Host": "evil.example"}).status_code == 403
    assert server.ask("GET", "/info/", headers={"Origin": "https://evil.example"}).status_code == 403


def test_info_names_models_trainer_and_strategies(server):
    info = server.ask("GET", "/info/").json()
    assert set(info["models"]) == {"cvm_points", "cvm"}
    assert not any(model["nuclick"] for model in info["models"].values()), "QuPath would send no background clicks"
    assert set(info["trainers"]) == {"cvm"}
    assert set(info["strategies"]) == {"random", "first", "most_uncertain"}
    assert info["datastore"]["total"] == 3, "a link out of the studies folder is no study"


def test_clicks_before_any_training(server):
    for name in ("image", "all", "json"):
        answer = server.ask("POST", f"/infer/cvm_points?image=a&output={name}", data=params(**CLICKS))
        assert answer.status_code == 200, answer.text
    assert answer.json()["network"]["trained"] is False
    answer = server.ask("POST", "/infer/cvm_points?image=a&output=image", data=params(**CLICKS))
    labels = np.array(Image.open(io.BytesIO(answer.content)))
    assert labels.shape == (64, 96)
    assert dice(labels == 1, disc()) > 0.8


@pytest.mark.parametrize("suffix", [".geojson", ".xml", ".json"])
def test_polygons_are_read_back(server, suffix, tmp_path):
    data = params(**CLICKS, result_extension=suffix, simplify=0)
    answer = server.ask("POST", "/infer/cvm_points?image=a&output=image", data=data)
    (tmp_path / f"a{suffix}").write_bytes(answer.content)
    found = read_annotations(tmp_path / f"a{suffix}", classes=PREDICTED, image_shape=(64, 96))
    drawn = rasterise_regions(found.regions, image_shape=(64, 96), map_shape=(64, 96))
    assert dice(drawn == 1, disc()) > 0.8


def test_nifti_has_the_axes_x_y(server, tmp_path):
    data = params(**CLICKS, result_extension=".nii.gz")
    (tmp_path / "a.nii.gz").write_bytes(server.ask("POST", "/infer/cvm_points?image=a&output=image", data=data).content)
    assert nibabel.load(tmp_path / "a.nii.gz").shape == (96, 64)


@pytest.mark.parametrize(
    "method, path, options",
    [
        ("PUT", "/datastore/image?image=..%2F..%2Fx", {"files": {"file": ("x.png", b"x")}}),
        ("PUT", "/datastore/image?image=%2Ftmp%2Fx", {"files": {"file": ("x.png", b"x")}}),
        ("PUT", "/datastore/image?image=new", {"files": {"file": ("x.png", b"no image")}}),
        ("PUT", "/datastore/image?image=new", {"files": {"file": ("x.exe", b"x")}}),
        ("PUT", "/datastore/image?image=a", {"files": {"file": ("a.png", b"x")}}),
        ("PUT", "/datastore/label?image=a&tag=..%2Fx", {"files": {"label": ("a.geojson", b"{}")}}),
        ("PUT", "/datastore/label?image=a", {"files": {"label": ("a.geojson", b"{")}}),
        ("PUT", "/datastore/label?image=a", {"files": {"label": ("a.geojson", b'{"type": "Feature"}')}}),
        (
            "PUT",
            "/datastore/label?image=a",
            {"files": {"label": ("a.xml", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")}},
        ),
        ("PUT", "/datastore/label?image=nosuch", {"files": {"label": ("a.geojson", b"{}")}}),
        ("PUT", "/datastore/label?image=..%2Fa", {"files": {"label": ("a.geojson", b"{}")}}),
        ("DELETE", "/datastore/image?id=..%2Fa", {}),
        ("POST", "/infer/cvm_points?image=/etc/hostname", {"data": params(**CLICKS)}),
        ("POST", "/infer/cvm_points?image=a", {"data": params(**CLICKS, image="/etc/hostname")}),
        ("POST", "/infer/cvm_points?image=leak", {"data": params(**CLICKS)}),
        ("POST", "/infer/cvm_points?image=a", {"data": params(background=[[1, 1]])}),
        ("POST", "/infer/cvm_points?image=a", {"data": {"params": "{"}}),
        ("POST", "/infer/cvm?image=a", {}),
        ("POST", "/infer/nosuch?image=a", {}),
        ("POST", "/activelearning/most_uncertain", {"json": {}}),
        ("POST", "/activelearning/nosuch", {"json": {}}),
        ("POST", "/activelearning/first", {"json": {"strategy": ["first"]}}),
        ("POST", "/infer/cvm_points?image=a", {"data": {"params": "[1, 2]"}}),
        ("POST", "/infer/cvm_points?image=a", {"data": {"params": "null"}}),
        ("POST", "/infer/cvm_points?image=a", {"data": params(**CLICKS, model=["cvm"])}),
        ("POST", "/infer/cvm_points?image=a&output=image", {"data": params(**CLICKS, result_write_to_file=False)}),
        ("POST", "/infer/wsi_v2/cvm_points?image=a", {"data": {"wsi": "[1, 2]"}}),
        ("PUT", "/datastore/image/info?image=a", {"data": {"info": "[1, 2]"}}),
        ("POST", "/train/cvm", {"json": {}}),
        ("POST", "/train/nosuch", {"json": {}}),
        ("POST", "/train/cvm", {"json": {"model": ["cvm"]}}),
        ("POST", "/batch/infer/cvm", {"json": {}}),
        ("POST", "/batch/infer/nosuch", {"json": {}}),
        ("POST", "/batch/infer/cvm_points", {"json": {"images": 5}}),
        ("POST", "/scoring/dice", {"json": {}}),
    ],
)
def test_a_bad_request_is_one_sentence_and_changes_nothing(server, state, method, path, options):
    before = state()
    answer = server.ask(method, path, **options)
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"]
    assert state() == before


def test_files_outside_cannot_be_downloaded(server):
    for name in ("leak", "../../etc/hostname", "/etc/hostname", "..%2f..%2fetc%2fhostname"):
        assert server.ask("GET", "/datastore/image", params={"image": name}).status_code == 404
        assert server.ask("GET", "/datastore/label", params={"label": name, "tag": "final"}).status_code == 404
    assert server.raw("GET /static/../../../etc/hostname") == 404
    assert server.raw("GET /static/%2e%2e/%2e%2e/app.py") == 404
    assert server.raw("GET /static/..%2f..%2fapp.py") == 404


def test_a_large_annotation_file_is_refused(server, state):
    before = state()
    big = b" " * 2**20 + b"{}"
    answer = server.ask("PUT", "/datastore/label?image=a", files={"label": ("a.geojson", big)})
    assert answer.status_code == 413
    assert state() == before


@pytest.mark.parametrize("path", ["/session/x", "/proxy/dicom/x", "/model/cvm", "/reload"])
def test_what_is_not_needed_is_not_served(server, path):
    assert server.ask("GET", path).status_code == 404


def test_an_image_is_uploaded_once(server, draw):
    image, _ = draw("d", 3)
    once = image.read_bytes()
    for _ in range(2):  # a corrected label is sent with its image again
        answer = server.ask("PUT", "/datastore/image?image=d", files={"file": (image.name, once)})
        assert (answer.status_code, answer.json()) == (200, {"image": "d"})
    another, _ = draw("d", 4)
    answer = server.ask("PUT", "/datastore/image?image=d", files={"file": (another.name, another.read_bytes())})
    assert answer.status_code == 400, answer.text
    assert server.ask("GET", "/datastore/image?image=d").content == once


def test_points_survive_the_upload(server, draw):
    _, label = draw("a", 0)
    answer = server.ask("PUT", "/datastore/label?image=a", files={"label": (label.name, label.read_bytes())})
    assert answer.status_code == 200, answer.text
    assert server.ask("GET", "/datastore/label?label=a&tag=final").content == label.read_bytes()


def test_the_answer_to_a_label_tells_what_was_left_out(server):
    vertices = "".join(f'<Coordinate X="{x}" Y="{y}"/>' for x, y in ((30, 22), (50, 22), (50, 42)))
    objects = "".join(
        f'<Annotation Name="Positive" PartOfGroup="Positive" Type="{kind}"><Coordinates>{vertices}</Coordinates>'
        "</Annotation>"
        for kind in ("Polygon", "Line")
    )
    text = f"<ASAP_Annotations><Annotations>{objects}</Annotations></ASAP_Annotations>"
    for tag in ("other", "final"):
        answer = server.ask("PUT", f"/datastore/label?image=c&tag={tag}", files={"label": ("c1.xml", text)})
        assert answer.json() == {"image": "c", "label": "c", "points": 0, "regions": 1, "left_out": {"Line": 1}}
        assert server.ask("DELETE", f"/datastore/label?id=c&tag={tag}").status_code == 200
    answer = server.ask(
        "PUT", "/datastore/label?image=c", files={"label": ("c1.xml", text.replace("Positive", "Tumor"))}
    )
    assert answer.status_code == 400
    assert "--conf classes" in answer.json()["detail"]
    assert answer.json()["detail"] in server.log.read_text()


def test_the_next_sample_has_no_label(server):
    assert server.ask("POST", "/activelearning/first", json={}).json()["id"] == "b"
    assert server.ask("POST", "/activelearning/random", json={}).json()["id"] in ("b", "c", "d")


def test_training_with_one_labelled_image_is_tracked_and_taken_into_use(server):
    assert server.ask("POST", "/train/cvm", json={"gpus": "/tmp"}).status_code == 400
    task = server.trained({"max_epochs": 2, "run_id": "", "scale": 1, "bundle_path": str(server.studies)})
    assert task["status"] == "DONE", task["details"]
    assert "bundle_path" not in task["request"]
    work = server.studies / "cvm_monai"
    (run,) = (work / "runs").iterdir()
    assert (run / "models" / "model.pt").is_file()
    statuses = sqlite3.connect(work / "mlruns.db").execute("select status from runs").fetchall()
    assert statuses == [("FINISHED",)]
    assert server.ask("GET", "/info/").json()["train_stats"]["cvm"]["status"] == "FINISHED"
    answer = server.ask("POST", "/infer/cvm?image=b&output=json")
    assert answer.json()["network"] == {"trained": True, "name": "resnet34_unet", "training": run.name}


def test_a_training_of_other_values_is_refused_at_once(server):
    before = (server.studies / "cvm_monai" / "current.json").read_text()
    answer = server.ask("POST", "/train/cvm", json={"max_epochs": "$1"})
    assert answer.status_code == 400
    assert "max_epochs must be a whole number" in answer.json()["detail"]
    assert (server.studies / "cvm_monai" / "current.json").read_text() == before


def test_the_trained_network_segments_and_ranks(server):
    labels = np.array(Image.open(io.BytesIO(server.ask("POST", "/infer/cvm?image=b&output=image").content)))
    assert labels.shape == (64, 96)
    assert set(np.unique(labels)) <= {0, 1}
    answer = server.ask("POST", "/activelearning/most_uncertain", json={}).json()
    assert answer["id"] in ("b", "c", "d")
    assert 0 <= answer["mean_entropy_bits"] <= 1


@pytest.mark.parametrize("output, kind", [("asap", "application/xml"), ("dsa", "application/json")])
def test_qupaths_requests_are_answered_on_a_cpu(server, output, kind):
    wsi = json.dumps({"level": 0, "location": [0, 0], "size": [0, 0], "tile_size": [1024, 1024], "params": CLICKS})
    for model in ("cvm", "cvm_points"):
        answer = server.ask("POST", f"/infer/wsi_v2/{model}?image=b&output={output}", data={"wsi": wsi})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(kind)
        answer = server.ask("POST", f"/infer/wsi/{model}?image=b&output={output}", json=json.loads(wsi))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", ["/infer/wsi/cvm?image=b&output=asap", "/activelearning/first", "/train/nosuch"])
def test_json_is_read_without_a_content_type(server, path):
    """As QuPath's plug-in sends it."""
    answer = server.ask("POST", path, data=json.dumps({"location": [0, 0], "size": [0, 0]}).encode())
    assert "Content-Type" not in answer.request.headers
    assert answer.status_code == (400 if "nosuch" in path else 200), answer.text


@pytest.mark.parametrize("body", ["[1, 2]", "{", "3"])
def test_a_body_that_is_no_json_object_is_refused_in_one_sentence(server, body):
    answer = server.ask("POST", "/train/cvm", data=body.encode())
    assert answer.status_code == 400
    assert "cannot be read" in answer.json()["detail"]
    assert "cannot be read" in server.log.read_text()


def test_the_whole_image_is_the_default_of_the_digital_slide_archive(server):
    """What its client sends where nobody drew a region."""
    body = {
        "level": 0,
        "location": [-1.0, -1.0],
        "size": [-1.0, -1.0],
        "tile_size": [1024, 1024],
        "min_poly_area": 80.0,
    }
    body |= {"output": "dsa", "girder_api_url": "", "girder_token": "", "params": {"wsi_tiles": []}}
    answer = server.ask("POST", "/infer/wsi/cvm?image=b&output=dsa", json=body)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"name", "description", "elements"}
    answer = server.ask("POST", "/infer/wsi/cvm?image=b&output=json", json=body)
    assert answer.json()["region"] == [0, 0, 96, 64]


def test_the_next_patch_has_its_place(server):
    for strategy in ("first", "random", "most_uncertain"):
        request = {"image": "b", "patch_size": [32, 32], "image_size": [96, 64]}
        answer = server.ask("POST", f"/activelearning/{strategy}", data=json.dumps(request).encode()).json()
        assert answer["id"] == "b"
        assert answer["bbox"][2:] == [32, 32]


def test_an_upload_is_segmented_without_being_kept(server, state, draw):
    image, _ = draw("upload", 9)
    before = state()
    answer = server.ask("POST", "/infer/cvm?output=json", files={"file": (image.name, image.read_bytes())})
    assert answer.json()["region"] == [0, 0, 96, 64]
    assert state() == before


def test_a_batch_keeps_what_it_predicts(server):
    assert server.ask("POST", "/batch/infer/cvm?images=unlabeled&run_sync=true").status_code == 200
    answer = server.ask("GET", "/datastore/label?label=b&tag=original")
    assert np.array(Image.open(io.BytesIO(answer.content))).shape == (64, 96)


def test_an_image_is_removed_with_its_labels(server):
    assert server.ask("DELETE", "/datastore/image?id=d").status_code == 200
    assert server.ask("GET", "/datastore/image?image=d").status_code == 404
    assert not (server.studies / "d.png").exists()
