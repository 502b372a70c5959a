"""What `--conf NAME VALUE` may say."""

import pytest

from cvm_monai.label_app.app_settings import read_settings


def test_settings_are_checked(tmp_path):
    settings = read_settings({"classes": "Tumor=target,Stroma=background", "image_mpp": "0.5"}, studies=tmp_path)
    assert settings.classes["target (predicted)"] == 1
    assert settings.classes["Tumor"] == "target"
    assert settings.work == (tmp_path / "cvm_monai").resolve()
    for conf, message in (
        ({"modle": "x"}, "--conf modle is unknown"),
        ({"image_mpp": "x"}, "image_mpp must be micrometres"),
        ({"follow_links": "1"}, "follow_links must be true or false"),
    ):
        with pytest.raises(ValueError, match=message):
            read_settings(conf, studies=tmp_path)


def test_an_installed_package_has_its_bundle_inside(tmp_path, monkeypatch):
    inside = tmp_path / "cvm_monai" / "bundle"
    (inside / "configs").mkdir(parents=True)
    (inside / "configs" / "train.yaml").write_text("{}")
    monkeypatch.setattr("cvm_monai.bundle_files.BESIDE", tmp_path / "bundle")
    monkeypatch.setattr("cvm_monai.bundle_files.INSIDE", inside)
    assert read_settings({}, studies=tmp_path).bundle == inside
