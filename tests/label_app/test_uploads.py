"""What uploaded labels may be, and what the sender is told."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from cvm_monai.label_app.app_settings import read_settings
from cvm_monai.label_app.uploads import check_label_file, read_label

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
