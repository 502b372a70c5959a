import pytest

from cvm_monai.annotations import Region
from cvm_monai.data.lesions import choose_crops

SHAPE = (1000, 2000)


def square(x, y, side, label=1, holes=()):
    return Region(((x, y), (x + side, y), (x + side, y + side), (x, y + side)), holes, label)


def places(crops):
    return [(crop.tile.x, crop.tile.y, crop.lesions, pytest.approx(crop.share)) for crop in crops]


def choose(*regions, count=2, side=200, shape=SHAPE):
    return choose_crops(regions, side=side, count=count, image_shape=shape)


def test_the_crop_lies_around_the_lesion():
    assert places(choose(square(500, 400, 50))) == [(425, 325, 1, 2500 / 40000)]


def test_the_crop_with_most_tumour_comes_first_and_holds_all_lesions_near():
    crops = choose(square(100, 100, 40), square(900, 500, 40), square(970, 500, 60))
    assert places(crops) == [(900, 430, 2, 5200 / 40000), (20, 20, 1, 1600 / 40000)]


def test_crops_never_overlap():
    crops = choose(*(square(300 + 60 * index, 400, 30) for index in range(12)), count=9)
    assert len(crops) >= 3
    places = [crop.tile for crop in crops]
    assert all(max(abs(a.x - b.x), abs(a.y - b.y)) >= 199 for index, a in enumerate(places) for b in places[:index])


def test_what_an_exclusion_covers_is_no_tumour():
    crops = choose(square(500, 400, 100), square(500, 400, 50, label=255), square(500, 700, 60, label=0))
    assert places(crops) == [(450, 350, 1, 7500 / 40000)]
    assert choose(square(500, 400, 100), square(490, 390, 200, label=255)) == ()


def test_a_crop_of_a_lesion_larger_than_it_lies_on_the_border():
    assert places(choose(square(500, 300, 500), count=1)) == [(500, 200, 1, 0.5)]


def test_a_slide_that_is_all_tumour_gives_a_crop_all_the_same():
    assert places(choose(square(0, 0, 2000), count=1)) == [(0, 0, 1, 1.0)]


def test_a_further_crop_needs_a_hundredth_of_tumour_but_the_first_does_not():
    assert len(choose(square(500, 400, 100), square(1500, 400, 19))) == 1
    assert len(choose(square(500, 400, 100), square(1500, 400, 21))) == 2
    assert len(choose(square(1500, 400, 2))) == 1


def test_a_slide_smaller_than_a_crop():
    assert places(choose(square(10, 20, 30), shape=(80, 100))) == [(0, 0, 1, 900 / 40000)]


def test_no_lesion_no_crop():
    assert choose() == ()
    assert choose(square(10, 20, 30, label=0)) == ()
