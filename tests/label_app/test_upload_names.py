"""An upload that is refused is named as its sender knows it."""

import numpy as np
import pytest
from PIL import Image

from cvm_monai.label_app.uploads import check_image_file, check_label_file

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
