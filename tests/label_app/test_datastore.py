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
