"""The API, without a browser and without a network."""

import base64
import csv
import io
import json
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cvm_monai.annotations import read_annotations
from tests.annotate.conftest import INSIDE, NAMES, OUTSIDE, add, draw


def u_of(answer):
    return np.array(Image.open(io.BytesIO(base64.b64decode(answer["u"])))) / 255


def disc():
    y, x = np.mgrid[:64, :96]
    return (y - 32) ** 2 + (x - 40) ** 2 < 20**2


def dice(found, mask):
    return 2 * (found & mask).sum() / (found.sum() + mask.sum())


def test_the_project_lists_images_and_classes(client):
    found = client.project()
    assert [image["name"] for image in found["images"]] == list(NAMES)
    assert {image["state"] for image in found["images"]} == {"untouched"}
    assert (found["images"][0]["width"], found["images"][0]["height"]) == (96, 64)
    assert [(one["number"], one["name"], one["colour"]) for one in found["classes"]] == [
        (0, "background", "#0072b2"),
        (1, "target", "#d55e00"),
    ]
    assert (found["model"], found["settings"]["threshold"]) == (None, 0.5)


def test_images_may_lie_in_the_folder_itself(served, tmp_path):
    draw(tmp_path / "flat" / "x.png", 0)
    client = served(tmp_path / "flat")
    assert client.image("x")["problem"] is None
    client.edit([add(1.5, 1.5)], name="x")
    assert (tmp_path / "flat" / "points" / "x.geojson").is_file()


def test_a_click_is_on_disk_when_it_is_answered(client, folder):
    answer = client.edit([add(10.5, 20.5), add(3.5, 4.5, 0)]).json()
    assert answer["revision"] == 1
    found = read_annotations(folder / "points" / "a.geojson")
    assert [(point.x, point.y, point.label) for point in found.points] == [(10.5, 20.5, 1), (3.5, 4.5, 0)]
    assert client.image()["state"] == "clicked"
    assert client.image()["points"] == 2


def test_edits_are_saved_all_or_none(client, folder):
    answer = client.edit([add(10.5, 20.5), {"op": "remove", "id": "77"}])
    assert (answer.status_code, answer.json()["detail"]) == (400, "there is no point 77: somebody removed it")
    assert not (folder / "points").exists()


def test_points_are_moved_relabelled_and_removed(client):
    first, second = client.edit([add(1.5, 1.5), add(2.5, 2.5)]).json()["points"]
    edits = [
        {"op": "move", "id": first["id"], "x": 7.5, "y": 8.5},
        {"op": "relabel", "id": first["id"], "label": 0},
        {"op": "remove", "id": second["id"]},
    ]
    assert client.edit(edits).json()["points"] == [{"id": first["id"], "x": 7.5, "y": 8.5, "label": 0}]


@pytest.mark.parametrize(
    "edit, status, sentence",
    [
        (add(96, 5), 400, "lies outside the image of 96 x 64 px"),
        (add(-0.1, 5), 400, "lies outside the image"),
        (add(5, 5, 7), 400, "there is no class 7"),
        (add(5, 5, 255), 400, "a point cannot be an exclusion"),
        (add(1e12, 5), 422, "less than 2147483648"),
        ({"op": "add", "x": 5}, 422, "edits.0.add.y cannot be read: Field required"),
        ({"op": "fly"}, 422, "edits.0 cannot be read"),
        (add(5, 5) | {"colour": 3}, 422, "edits.0.add.colour cannot be read"),
        ({"op": "remove", "id": "../x"}, 422, "edits.0.remove"),
    ],
)
def test_a_bad_edit_is_refused_in_one_sentence(client, folder, edit, status, sentence):
    answer = client.edit([edit])
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]
    assert not (folder / "points").exists()


def test_an_edit_of_a_stale_revision_gets_the_current_annotations(client):
    client.edit([add(1.5, 1.5)])
    answer = client.edit([add(2.5, 2.5)], revision=0)
    assert answer.status_code == 409
    assert [point["x"] for point in answer.json()["current"]["points"]] == [1.5]


def test_undo_and_redo_survive_another_server(client, served):
    client.edit([add(1.5, 1.5)])
    again = served()
    undone = again.post(f"/api/images/{again.id()}/undo", json={"revision": 1}).json()
    assert (undone["points"], undone["can_undo"], undone["can_redo"]) == ([], False, True)
    third = served()
    redone = third.post(f"/api/images/{third.id()}/redo", json={"revision": undone["revision"]}).json()
    assert [point["x"] for point in redone["points"]] == [1.5]
    refused = third.post(f"/api/images/{third.id()}/redo", json={"revision": redone["revision"]})
    assert (refused.status_code, refused.json()["detail"]) == (400, "there is nothing to redo")


def test_a_file_that_changed_on_disk_is_seen_and_never_overwritten(client, folder):
    client.edit([add(1.5, 1.5)])
    other = (folder / "points" / "a.geojson").read_text().replace("1.5", "9.5")
    (folder / "points" / "a.geojson").write_text(other)
    answer = client.edit([add(2.5, 2.5)], revision=1)
    assert answer.status_code == 409
    assert [point["x"] for point in answer.json()["current"]["points"]] == [9.5]
    assert (folder / "points" / "a.geojson").read_text() == other


def test_the_pages_are_told_of_a_file_that_changed_on_disk(client, folder):
    client.edit([add(1.5, 1.5)])
    told, seen = [], threading.Event()

    def publish(**event):
        told.append(event)
        seen.set()

    client.workspace.events.publish = publish
    watching = threading.Thread(target=client.workspace.watch, daemon=True)
    watching.start()
    file = folder / "points" / "a.geojson"
    file.write_text(file.read_text().replace("1.5", "9.5"))
    assert seen.wait(30)
    assert told[0] == {"type": "annotations", "image": client.id(), "revision": 2}
    client.workspace.stop()
    watching.join(30)


def test_two_clicks_of_each_class_outline_the_disc(client, cold):
    client.click()
    answer = client.post(f"/api/images/{client.id()}/segment", json={}).json()
    assert (answer["source"], answer["features"], answer["first"]) == ("clicks", "density", True)
    assert dice(u_of(answer) > 0.5, disc()) > 0.9
    assert answer["outlines"]
    again = client.post(f"/api/images/{client.id()}/segment", json={"lam": 5, "threshold": 0.7}).json()
    assert (again["first"], again["reason"]) == (False, None)


def test_without_clicks_of_both_kinds_there_is_a_reason(client, cold):
    answer = client.post(f"/api/images/{client.id()}/segment", json={}).json()
    assert (answer["u"], answer["outlines"]) == (None, [])
    assert answer["reason"] == "click once in the target and once outside it"


def test_a_window_is_segmented_by_the_clicks_in_it(client, cold):
    client.click()
    window = {"x": 0, "y": 0, "width": 70, "height": 64}
    answer = client.post(f"/api/images/{client.id()}/segment", json={"window": window}).json()
    assert answer["window"] == window
    assert (answer["width"], answer["height"]) == (70, 64)
    outside = client.post(f"/api/images/{client.id()}/segment", json={"window": window | {"x": 500}})
    assert (outside.status_code, "outside the image" in outside.json()["detail"]) == (400, True)
    bad = client.post(f"/api/images/{client.id()}/segment", json={"lam": -1})
    assert (bad.status_code, "lam must be" in bad.json()["detail"]) == (400, True)


def test_taken_outlines_become_regions_once(client, folder, cold):
    revision = client.click()["revision"]
    address = f"/api/images/{client.id()}/take"
    early = client.post(address, json={"revision": revision})
    assert (early.status_code, "click first" in early.json()["detail"]) == (400, True)
    answer = client.post(f"/api/images/{client.id()}/segment", json={}).json()
    taken = client.post(address, json={"revision": revision, "window": answer["window"]}).json()
    assert len(taken["regions"]) == len(answer["outlines"])
    assert taken["regions"][0]["exterior"] == answer["outlines"][0]["exterior"]
    again = client.post(address, json={"revision": taken["revision"]}).json()
    assert again == taken
    assert len(read_annotations(folder / "points" / "a.geojson").regions) == len(taken["regions"])
    removed = client.edit([{"op": "remove_region", "id": taken["regions"][0]["id"]}]).json()
    assert len(removed["regions"]) == len(taken["regions"]) - 1


def test_a_class_of_its_own_is_segmented_against_all_others(served, cold):
    client = served(class_map={"Tumor": "target", "<img onerror>": 2})
    assert [one["name"] for one in client.project()["classes"]] == ["background", "Tumor", "<img onerror>"]
    client.edit([add(x, y, label) for label, places in ((2, INSIDE), (1, OUTSIDE)) for x, y in places])
    answer = client.post(f"/api/images/{client.id()}/segment", json={"label": 2}).json()
    assert (answer["label"], dice(u_of(answer) > 0.5, disc()) > 0.9) == (2, True)
    exported = client.get("/api/export", params={"what": "areas"})
    assert "<img onerror>" in exported.text
    assert exported.headers["x-content-type-options"] == "nosniff"
    assert exported.headers["content-type"].startswith("text/csv")


def test_a_prediction_needs_a_trained_network(client):
    answer = client.get(f"/api/images/{client.id()}/prediction")
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no trained network yet: train one first")
    answer = client.get("/api/export", params={"source": "prediction"})
    assert (answer.status_code, "no trained network" in answer.json()["detail"]) == (400, True)


def test_the_next_image_is_the_next_one_without_annotations(client):
    ids = [image["id"] for image in client.project()["images"]]
    client.edit([add(1.5, 1.5)], name="b")
    assert client.get("/api/next", params={"after": ids[0]}).json()["id"] == ids[2]
    assert client.get("/api/next", params={"after": ids[2]}).json()["id"] == ids[0]
    client.post(f"/api/images/{ids[0]}/checked", json={"checked": True})
    client.post(f"/api/images/{ids[2]}/checked", json={"checked": True})
    assert client.image("a")["state"] == "checked"
    assert client.get("/api/next").json()["id"] is None


def test_tiles_show_the_image(client, folder):
    facts = client.get(f"/api/images/{client.id()}/tiles").json()
    assert facts == {"width": 96, "height": 64, "tile_size": 256, "overlap": 0, "max_level": 7}
    for level, size in ((7, (96, 64)), (6, (48, 32)), (0, (1, 1))):
        tile = client.get(f"/api/images/{client.id()}/tiles/{level}/0_0.jpg")
        assert tile.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(tile.content)).size == size
    shown = np.array(Image.open(io.BytesIO(client.get(f"/api/images/{client.id()}/tiles/7/0_0.jpg").content)))
    assert np.abs(shown.astype(int) - np.array(Image.open(folder / "images" / "a.png"))).mean() < 12
    for missing in ("8/0_0", "7/1_0", "7/0_-1", "-1/0_0"):
        assert client.get(f"/api/images/{client.id()}/tiles/{missing}.jpg").status_code == 404
    assert Image.open(io.BytesIO(client.get(f"/api/images/{client.id()}/thumbnail.jpg").content)).size == (96, 64)


def test_exports_are_read_back(client, folder):
    assert client.get("/api/export").json()["detail"] == "there are no annotations to export yet"
    client.click("a")
    client.click("b")
    geojson = client.get("/api/export", params={"images": client.id("a")})
    assert geojson.content == (folder / "points" / "a.geojson").read_bytes()
    assert 'filename="a_annotations.geojson"' in geojson.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(client.get("/api/export").content))
    assert sorted(archive.namelist()) == ["a.geojson", "b.geojson"]
    labels = client.get("/api/export", params={"what": "labels", "images": client.id("a")})
    pixels = np.array(Image.open(io.BytesIO(labels.content)))
    assert (pixels.shape, pixels[32, 40], pixels[5, 5], pixels[50, 50]) == ((64, 96), 1, 0, 255)
    rows = list(csv.DictReader(io.StringIO(client.get("/api/export", params={"what": "areas"}).text)))
    assert [(row["image"], row["class"], row["points"], row["regions"]) for row in rows] == [
        (name, kind, "2", "0") for name in ("a", "b") for kind in ("background", "target")
    ]


def test_areas_are_those_of_the_regions(client, folder):
    square = [[10, 10], [30, 10], [30, 20], [10, 20], [10, 10]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]}, "properties": {}}
    feature["properties"] = {"classification": {"name": "target"}}
    (folder / "points").mkdir()
    (folder / "points" / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    rows = list(csv.DictReader(io.StringIO(client.get("/api/export", params={"what": "areas"}).text)))
    assert [(row["class"], row["area_px"], row["area_um2"]) for row in rows] == [
        ("background", "0", ""),
        ("target", "200", ""),
    ]


def test_twenty_requests_at_once_do_not_disturb_each_other(client, folder, cold):
    ids = [image["id"] for image in client.project()["images"]]
    client.click("a")

    def one(number):
        if number % 4 == 0:
            answer = client.post(f"/api/images/{ids[0]}/segment", json={})
            return answer.status_code, dice(u_of(answer.json()) > 0.5, disc()) > 0.9
        if number % 4 == 1:
            return client.get(f"/api/images/{ids[number % 3]}/tiles/7/0_0.jpg").status_code, True
        if number % 4 == 2:
            return client.get("/api/project").status_code, True
        while True:  # as a page does: on 409 it tries again on the current revision
            revision = client.get(f"/api/images/{ids[2]}/annotations").json()["revision"]
            body = {"revision": revision, "edits": [add(number + 0.5, 1.5)]}
            answer = client.post(f"/api/images/{ids[2]}/edits", json=body)
            if answer.status_code != 409:
                return answer.status_code, True

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [(200, True)] * 20
    found = read_annotations(folder / "points" / "c.geojson")
    assert sorted(point.x for point in found.points) == [3.5, 7.5, 11.5, 15.5, 19.5]


def test_openapi_describes_every_address(client):
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {
        "/api/project",
        "/api/images/{image_id}/edits",
        "/api/images/{image_id}/segment",
        "/api/training",
        "/api/export",
        "/api/register",
        "/api/events",
    } <= set(paths)


def test_annotations_of_another_format_are_shown_as_a_problem(client, served, folder):
    (folder / "points").mkdir()
    (folder / "points" / "a.xml").write_text("<ASAP_Annotations/>")
    (folder / "points" / "b.geojson").write_text('{"type": "FeatureCollection", "features": [{"type": "Feature"}')
    again = served()
    assert again.image("a")["problem"].startswith("its annotations are in a.xml")
    assert again.edit([add(1.5, 1.5)], name="c").status_code == 200
    assert "points/b.geojson: not valid JSON" in again.image("b")["problem"]
    refused = again.post(f"/api/images/{again.id('a')}/edits", json={"revision": 0, "edits": []})
    assert (refused.status_code, "export them as GeoJSON" in refused.json()["detail"]) == (400, True)


def test_an_image_that_cannot_be_opened_is_a_problem_of_its_own(served, folder):
    (folder / "images" / "d.png").write_bytes(b"no image")
    client = served()
    assert "d.png cannot be read" in client.image("d")["problem"]
    assert str(folder) not in client.image("d")["problem"]
    assert client.get(f"/api/images/{client.id('d')}/thumbnail.jpg").status_code == 400
    assert client.image("a")["problem"] is None


def test_a_label_without_a_meaning_is_named(served, folder):
    (folder / "points").mkdir()
    feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}
    feature["properties"] = {"classification": {"name": "Tumor"}}
    (folder / "points" / "a.geojson").write_text(json.dumps(feature))
    assert "unknown label 'Tumor'" in served().image("a")["problem"]
    known = served(class_map={"Tumor": "target"})
    assert (known.image("a")["problem"], known.image("a")["points"]) == (None, 1)
