from pathlib import Path

import pytest

from cvm_monai.slides.files import Names, bare, images_in, normal, other_names

COMPOSED, DECOMPOSED = "Pr\u00e4parat", "Pra\u0308parat"


def names(*files):
    return Names({Path(file).stem: Path(file) for file in files})


@pytest.mark.parametrize("name", ["s1", "s1.ome", "s1.ome.tif", "s1.tif", "s1.ome.tiff"])
def test_an_ome_tiff_is_meant_with_and_without_its_double_suffix(name):
    assert names("s1.ome.tif", "s2.ome.tif").find(name) == "s1.ome"


def test_the_image_of_just_that_name_comes_first():
    both = names("s1.tif", "s1.ome.tif")
    assert both.find("s1") == "s1"
    assert both.find("s1.ome") == "s1.ome"
    assert names("s1.ome.tif", "s1.OME.svs").find("s1") is None


@pytest.mark.parametrize("name", ["001", "001.png", "001.svs"])
def test_a_name_may_have_the_suffix_of_an_image(name):
    assert names("001.png", "002.png").find(name) == "001"
    assert names("001.png", "002.png").find("003.png") is None


@pytest.mark.parametrize("written", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED])
def test_names_in_two_normal_forms_are_one(written, asked):
    assert names(f"{written}.png", "b.png").find(asked) == written


def test_dots_within_a_name_stay():
    assert bare("TCGA-01.v2.svs") == "TCGA-01.v2"
    assert names("a.1.png", "a.2.png").find("a.1") == "a.1"


@pytest.mark.parametrize("name", ["p__s1", "p__s1.ome.tif", "p/s1", "p/s1.ome.tif", "s1", "s1.tif", "p__s1.tiff"])
def test_a_path_is_matched_as_names_are(tmp_path, name):
    for path in ("p/s1.ome.tif", "q/Pra\u0308parat.tif", "q/b.tif", "r/b.tif"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    images = images_in(tmp_path, (".tif",))
    found = Names({normal(image.name): image.path for image in images}, other_names(images, tmp_path))
    assert found.find(name) == "p__s1.ome"
    assert found.find("q/Pr\u00e4parat.svs") == found.find("Pra\u0308parat") == "q__Pr\u00e4parat"
    assert found.find("b") is found.find("b.tif") is found.find("p/b") is None
