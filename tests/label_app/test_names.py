"""What may become a file name."""

import pytest

from cvm_monai.label_app.names import IMAGES, check_image_id, check_tag, lies_inside, split_suffix


@pytest.mark.parametrize("image_id", ["../x", "/etc/passwd", "a/b", "..\\x", "C:x", "a\0b", "a\nb"])
def test_an_id_with_a_path_in_it_is_refused(image_id):
    with pytest.raises(ValueError, match="is a name, without"):
        check_image_id(image_id)


@pytest.mark.parametrize("image_id", ["..", ".hidden", " a", "a "])
def test_an_id_that_hides_is_refused(image_id):
    with pytest.raises(ValueError, match="must not begin with a dot"):
        check_image_id(image_id)


@pytest.mark.parametrize("image_id", ["", "x" * 151])
def test_an_id_has_a_sensible_length(image_id):
    with pytest.raises(ValueError, match="1 to 150 bytes"):
        check_image_id(image_id)


@pytest.mark.parametrize("image_id", ["case_1", "Fall 12 (Größe)", "a.b", "%2e%2e%2fx"])
def test_a_name_stays_as_it_is(image_id):
    assert check_image_id(image_id) == image_id


@pytest.mark.parametrize("tag", ["", "..", "a/b", "final.", "x" * 65])
def test_a_tag_is_a_word(tag):
    with pytest.raises(ValueError, match="a tag has letters"):
        check_tag(tag)


def test_a_suffix_is_known_in_any_case_and_taken_once_from_the_end():
    assert split_suffix("a.png.PNG", IMAGES) == ("a.png", ".PNG")
    assert split_suffix("a.ome.tiff", IMAGES) == ("a.ome", ".tiff")
    assert split_suffix("a.txt", IMAGES) is None
    assert split_suffix(".png", IMAGES) is None


def test_a_link_is_where_it_leads(tmp_path):
    folder = tmp_path / "studies"
    folder.mkdir()
    (tmp_path / "secret.png").touch()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "own.png").touch()
    assert lies_inside(folder / "own.png", folder)
    assert not lies_inside(folder / "link.png", folder)
    assert not lies_inside(folder / ".." / "secret.png", folder)
