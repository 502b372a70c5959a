"""The folder of images and labels, without a server."""

import pytest


@pytest.fixture
def datastore(monailabel, tmp_path):
    """An empty folder of studies that nothing watches."""
    from cvm_monai.label_app.datastore import StudiesDatastore

    (tmp_path / "studies").mkdir()
    return StudiesDatastore(
        str(tmp_path / "studies"),
        check_image=lambda path, image_id: None,
        check_label=lambda path, image_id: {"points": 6},
        auto_reload=False,
    )


def test_the_same_bytes_are_the_same_image(datastore, draw):
    image, _ = draw("a", 0)
    assert [datastore.add_image("a", str(image), {}) for _ in range(2)] == ["a", "a"]
    other, _ = draw("b", 1)
    with pytest.raises(ValueError, match="there is another image 'a' already"):
        datastore.add_image("a", str(other), {})


def test_what_was_read_of_a_label_is_kept_with_it(datastore, draw):
    image, label = draw("a", 0)
    datastore.add_image("a", str(image), {})
    datastore.save_label("a", str(label), "final", {})
    assert datastore.last_read("a") == {"points": 6}
    assert datastore.last_read("b") == {}
    assert datastore.get_label_info("a", "final")["read"] == {"points": 6}


def test_a_label_whose_file_is_gone_does_not_train(datastore, draw):
    image, label = draw("a", 0)
    datastore.add_image("a", str(image), {})
    datastore.save_label("a", str(label), "final", {})
    ((_, _, kept),) = datastore.labels_of()
    kept.unlink()
    assert datastore.labels_of() == []


def test_the_files_of_one_dicom_series_are_one_image(datastore, tmp_path, make_dicom, draw):
    _, label = draw("a", 0)
    for name in ("b", "c"):
        make_dicom(tmp_path / "studies" / f"{name}.dcm", "1.2.840.7")
    make_dicom(tmp_path / "studies" / "other.dcm", "1.2.840.8")
    datastore.refresh()
    assert sorted(datastore.list_images()) == ["b", "other"]
    datastore.save_label("b", str(label), "final", {})
    make_dicom(tmp_path / "studies" / "a.dcm", "1.2.840.7")  # comes first by its name
    datastore.refresh()
    assert sorted(datastore.list_images()) == ["b", "other"]
    assert [image_id for image_id, _, _ in datastore.labels_of()] == ["b"]


def test_the_files_of_one_dicom_series_sent_one_by_one_are_one_image_and_go_together(datastore, tmp_path, make_dicom):
    studies = tmp_path / "studies"
    sent = [make_dicom(tmp_path / f"{name}.dcm", "1.2.840.7") for name in ("b", "a", "c")]
    assert [datastore.add_image("", str(file), {}) for file in (*sent, *sent)] == ["b"] * 6
    datastore.refresh()
    assert datastore.list_images() == ["b"]
    assert sorted(file.name for file in studies.glob("*.dcm")) == ["a.dcm", "b.dcm", "c.dcm"]
    datastore.remove_image("b")
    datastore.refresh()
    assert datastore.list_images() == []
    assert list(studies.glob("*.dcm")) == []


def test_a_list_that_had_each_file_of_a_series_keeps_those_with_labels(datastore, tmp_path, make_dicom, draw):
    import shutil

    _, label = draw("a", 0)
    for name in ("b", "c"):
        shutil.copy(make_dicom(tmp_path / f"{name}.dcm", f"1.2.840.{name == 'c'}"), tmp_path / "studies")
    datastore.refresh()
    datastore.save_label("c", str(label), "final", {})
    assert sorted(datastore.list_images()) == ["b", "c"]
    for name in ("b", "c"):
        make_dicom(tmp_path / "studies" / f"{name}.dcm", "1.2.840.7")
    datastore.refresh()
    assert datastore.list_images() == ["c"]


@pytest.fixture
def looks(datastore, monkeypatch):
    """What the folder's watcher tells the datastore of files that came or went; the looks through the folder so far."""
    from watchdog.events import FileCreatedEvent

    counted = []
    look = datastore._reconcile_datastore
    monkeypatch.setattr(datastore, "_reconcile_datastore", lambda: (counted.append(1), look()))

    def told(*paths):
        for path in paths:
            datastore._on_any_event(FileCreatedEvent(str(path)))
        return len(counted)

    return told


def test_many_images_and_labels_that_were_copied_are_found_by_one_look(datastore, looks, draw, tmp_path):
    studies, copied = tmp_path / "studies", []
    for name in "abcde":
        for file, folder in zip(draw(name, 0), (studies, studies / "labels" / "final"), strict=True):
            copied.append(file.rename(folder / file.name))
    assert looks(*copied) == 1
    assert datastore.list_images() == list("abcde")
    assert len(datastore.labels_of()) == 5


def test_each_file_that_is_not_listed_or_gone_is_looked_for(datastore, looks, draw, tmp_path):
    studies = tmp_path / "studies"
    (image, label), (other, _) = draw("a", 0), draw("b", 1)
    image = image.rename(studies / "a.png")
    assert looks(image, image) == 1
    other = other.rename(studies / "b.png")
    assert looks(image, other) == 2
    label = label.rename(studies / "labels" / "final" / "a.geojson")
    assert looks(label, label) == 3
    label.unlink()
    assert looks(label, label, image) == 4
    assert datastore.labels_of() == []
    image.unlink()
    assert looks(image, image, tmp_path / "studies" / "never.png") == 5
    assert datastore.list_images() == ["b"]


def test_a_label_that_the_server_keeps_itself_is_not_looked_for(datastore, looks, draw, tmp_path):
    image, label = draw("a", 0)
    datastore.add_image("a", str(image), {})
    datastore.save_label("a", str(label), "final", {})
    assert looks(tmp_path / "studies" / "a.png", tmp_path / "studies" / "labels" / "final" / "a.geojson") == 0
