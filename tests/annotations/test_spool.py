"""Corners in temporary files: the same regions whatever is held together, and nothing left behind."""

import resource
import tempfile
from contextlib import closing

import numpy as np
import pytest
from scipy import ndimage

from cvm_monai.annotations import polygons, regions_from_rows, spool, write_results_geojson
from cvm_monai.annotations.spool import RECORD, CornerSpool

SIZE = 48


def random_labels(seed, size=SIZE):
    """Two classes and background, from noise of single pixels to large blobs with holes and islands in them."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((size, size)), (0, 0.7, 1.5, 3)[seed % 4])
    return np.digitize(smooth, np.quantile(smooth, (0.4, 0.75))).astype(np.uint8)


def nested():
    """A ring in a ring in a ring around a pixel: the outer regions go on below all that they hold."""
    row, column = np.indices((SIZE, SIZE))
    distance = np.maximum(abs(row - SIZE // 2), abs(column - SIZE // 2))
    return ((distance // 3) % 2).astype(np.uint8)


def results(labels, *, height, **options):
    """The regions of strips, with a probability."""
    probability = np.random.default_rng(7).integers(0, 256, labels.shape, dtype=np.uint8)
    strips = [
        (row, labels[row : row + height], probability[row : row + height]) for row in range(0, len(labels), height)
    ]
    return list(regions_from_rows(strips, mpp=0.5, **options))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Groups of few corners, in files from the first byte."""

    def set_group(corners, vertices=40):
        monkeypatch.setattr(spool, "GROUP", corners)
        monkeypatch.setattr(spool, "IN_MEMORY", 1)
        monkeypatch.setattr(polygons, "VERTICES", vertices)
        return tmp_path

    return set_group


@pytest.mark.parametrize("height", [1, 5, 16, SIZE])
@pytest.mark.parametrize(
    "labels",
    [
        *(pytest.param(random_labels(seed), marks=() if seed < 4 else pytest.mark.ci) for seed in range(8)),
        nested(),
        np.ones((SIZE, SIZE), np.uint8),
    ],
)
def test_groups_of_any_size_give_the_same_regions_to_the_bit(small, labels, height):
    exact, simple = results(labels, height=height), results(labels, height=height, simplify_um=1.0)
    assert sum(one.pixels for one in exact) == np.count_nonzero(labels)
    for corners in (1, 13, 200):  # the first: one region in a group, however many corners it has
        folder = small(corners)
        assert results(labels, height=height, folder=folder) == exact
        assert results(labels, height=height, folder=folder, simplify_um=1.0) == simple


def test_corners_come_back_by_region_in_the_order_they_came_in(small):
    small(2)
    corners = np.zeros(8, RECORD)
    corners["part"], corners["row"] = [3, 1, 2, 3, 1, 2, 2, 3], range(8)
    store = CornerSpool()
    store.append(corners[:3])
    store.append(corners[3:])
    store.sort(np.array([-1, 0, 1, 0]), 2)  # the parts 1 and 3 are one region
    found = [(some["part"].tolist(), some["row"].tolist()) for some in store]
    store.close()
    assert found == [([0] * 5, [0, 1, 3, 4, 7]), ([1] * 3, [2, 5, 6])]


@pytest.fixture
def made(monkeypatch):
    """The temporary files."""
    files, temporary = [], tempfile.TemporaryFile

    def noted(*arguments, **options):
        files.append(temporary(*arguments, **options))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    return files


def test_files_of_a_large_map_have_no_name_and_are_gone_with_the_last_region(small, made):
    folder = small(10)
    found = regions_from_rows([(0, random_labels(0))], mpp=0.5, folder=folder)
    assert [file.closed for file in made] == [True, False]  # the sorted corners wait for their turn
    assert list(folder.iterdir()) == []
    list(found)
    assert made[1].closed


def test_files_are_gone_after_strips_that_make_no_map(small, made):
    folder, labels = small(10), random_labels(0)
    with pytest.raises(ValueError, match="begins at row 40, but 48 rows were read"):
        regions_from_rows([(0, labels), (40, labels)], mpp=0.5, folder=folder)
    assert [file.closed for file in made] == [True]


def test_files_are_gone_after_an_error_of_the_writer(small, made):
    folder = small(10)
    found = regions_from_rows([(0, random_labels(0))], mpp=0.5, folder=folder)
    with pytest.raises(ValueError, match="has the label 2, for which names has no class"), closing(found):
        write_results_geojson(folder / "a.geojson", found, names=("background", "target"))
    assert [file.closed for file in made] == [True, True]
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_an_error_that_names_the_folder(small):
    folder, labels = small(10), random_labels(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            list(regions_from_rows([(0, labels)], mpp=0.5, folder=folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(folder)
    assert list(folder.iterdir()) == []
