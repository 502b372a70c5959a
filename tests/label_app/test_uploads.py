"""What may be uploaded: names, files, and what the sender is told of them."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from cvm_monai.label_app.app_settings import read_settings
from cvm_monai.label_app.uploads import (
    IMAGES,
    check_image_file,
    check_image_id,
    check_label_file,
    check_tag,
    lies_inside,
    read_label,
    split_suffix,
)

SQUARE = ((10, 10), (40, 10), (40, 40), (10, 40))
CLOSED = (*SQUARE, SQUARE[0])
ELLIPSE = ((50, 10), (60, 20), (50, 30), (40, 20))


def plugin_xml(path, *objects):
    """The XML that QuPath's plug-in writes of (class, type, vertices): the class is name and group."""
    written = "".join(
        f'<Annotation Color="#c80000" Name="{name}" PartOfGroup="{name}" Type="{kind}"><Coordinates>'
        + "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(vertices))
        + "</Coordinates></Annotation>"
        for name, kind, vertices in objects
    )
    start = '<ASAP_Annotations><Annotations Description="" H="0" Name="" W="0" X="0" Y="0">'
    path.write_text(f"{start}{written}</Annotations><AnnotationGroups/></ASAP_Annotations>")
    return path


@pytest.fixture
def check(tmp_path, draw):
    """Reads objects as the plug-in sends them, under the settings of a server."""
    image, _ = draw("a", 0)

    def read(*objects, **conf):
        settings = read_settings(conf, studies=tmp_path)
        return check_label_file(plugin_xml(tmp_path / "a.xml", *objects), image, classes=settings.classes)

    return read


def test_the_classes_of_the_plug_in_are_known(check):
    read = check(("Positive", "Polygon", SQUARE), ("Negative", "Ellipse", ELLIPSE))
    assert read == {"points": 0, "regions": 2, "left_out": {}}
    assert check(("Positive", "Polygon", SQUARE), classes='{"POSITIVE": "background"}')["regions"] == 1


def test_predictions_sent_back_are_of_their_class(check):
    assert check(("target (predicted)", "Geometry", CLOSED))["regions"] == 1


@pytest.mark.parametrize("name", ["0", "1", "17"])
def test_numbered_predictions_are_not_taken_for_background(check, name):
    with pytest.raises(ValueError, match=f"the label, annotation 1: unknown label '{name}'"):
        check((name, "Polygon", SQUARE))


def test_unknown_classes_are_told_with_the_servers_own_option(check):
    with pytest.raises(ValueError, match="unknown labels") as refused:
        check(("Tumor", "Polygon", SQUARE), ("Stroma", "Polygon", SQUARE))
    assert "--conf classes Tumor=target,Stroma=background" in str(refused.value)
    assert "--classes" not in str(refused.value)
    with pytest.raises(ValueError, match=r"""--conf classes '\{"Immune cells": "target"\}'"""):
        check(("Immune cells", "Polygon", SQUARE))
    assert check(("Tumor", "Polygon", SQUARE), classes="Tumor=target,Stroma=background")["regions"] == 1


def test_what_is_left_out_is_told(check):
    read = check(("Positive", "Polygon", SQUARE), ("Positive", "Line", SQUARE[:2]))
    assert read == {"points": 0, "regions": 1, "left_out": {"Line": 1}}
    with pytest.raises(ValueError, match=r"neither a point nor a region \(left out: 1 Line\)"):
        check(("Positive", "Line", SQUARE[:2]))


def test_a_nifti_label_teaches_as_a_label_image_does(tmp_path, draw):
    """As 3D Slicer sends it: axes x, y and one slice."""
    image, _ = draw("a", 0)
    labels = np.zeros((64, 96), np.uint8)
    labels[20:40, 30:60] = 1
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels.T[..., None], np.eye(4)), path)
    Image.fromarray(labels).save(tmp_path / "b.png")
    found = read_label(path, image, classes={})
    assert found == read_label(tmp_path / "b.png", image, classes={})
    assert found.labels() == {0, 1}
    assert check_label_file(path, image, classes={})["regions"] == len(found.regions)
    nibabel.save(nibabel.Nifti1Image(labels.T.astype(np.int16) * 300, np.eye(4)), path)
    with pytest.raises(ValueError, match="the label: the values of a label must be class numbers from 0 to 255"):
        check_label_file(path, image, classes={})
    nibabel.save(nibabel.Nifti1Image(labels.T * 7, np.eye(4)), path)
    with pytest.raises(ValueError, match=r"the label.*unknown label.* '7'"):
        check_label_file(path, image, classes={})


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
    with pytest.raises(ValueError, match="a tag must consist of letters"):
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


CLASSES = {"background": 0, "target": 1}


@pytest.mark.parametrize("name", ["tmp0a1b2c.xml", "tmp0a1b2c.geojson", "tmp0a1b2c.nii.gz"])
def test_no_path_of_the_server_is_told(tmp_path, name):
    image = tmp_path / "studies" / "slide 7.png"
    image.parent.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    upload = tmp_path / "cvm_monai_label_x" / name
    upload.parent.mkdir()
    upload.write_bytes(b"no annotations")
    with pytest.raises(ValueError, match="label") as caught:
        check_label_file(upload, image, classes=CLASSES)
    assert str(tmp_path) not in str(caught.value)
    assert "tmp0a1b2c" not in str(caught.value)
    picture = upload.with_name("tmp9z.png")
    picture.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"^scan: scan cannot be read as an image") as told:
        check_image_file(picture, "scan")
    assert str(tmp_path) not in str(told.value)
