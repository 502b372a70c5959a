"""The phantom's images and masks: what a method that learns from points may rely on."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from cvm_monai.data.phantom import PhantomCase, draw_case, draw_patient
from cvm_monai.data.phantom.layout import draw_layout


def _draw(seed: int, cases: int, size: int) -> list[PhantomCase]:
    """Cases in pairs of one patient."""
    patients = [draw_patient(f"p{i // 2}", np.random.default_rng([seed, 0, i // 2])) for i in range(cases)]
    return [draw_case(size, patient, np.random.default_rng([seed, 1, i])) for i, patient in enumerate(patients)]


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return _draw(seed=0, cases=24, size=128)


def _far_from(mask: np.ndarray) -> np.ndarray:
    """Pixels more than 3 px away from the mask."""
    return ndimage.distance_transform_edt(~mask) > 3 if mask.any() else np.ones_like(mask)


def test_images_are_rgb_and_masks_are_boolean_and_of_the_same_size(cases: list[PhantomCase]) -> None:
    for case in cases:
        assert case.image.shape == (128, 128, 3)
        assert case.image.dtype == np.uint8
        assert case.mask.shape == case.novel.shape == (128, 128)
        assert case.mask.dtype == case.novel.dtype == bool


def test_both_classes_have_room_for_five_points_three_pixels_from_any_border(cases: list[PhantomCase]) -> None:
    for case in [*cases, *_draw(seed=1, cases=6, size=64)]:
        assert 0.15 <= case.mask.mean() <= 0.6
        inner = case.mask & _far_from(~case.mask)
        outer = _far_from(case.mask) & _far_from(case.novel)
        assert inner.sum() >= 100
        assert outer.sum() >= 100


def test_novel_regions_touch_no_target_and_occur_in_at_least_a_third_of_the_cases(cases: list[PhantomCase]) -> None:
    assert not any((case.novel & ~_far_from(case.mask)).any() for case in cases)
    assert sum(case.novel.any() for case in cases) >= 8
    assert all(case.novel.any() == bool(case.novel_kinds) for case in cases)
    assert {kind for case in cases for kind in case.novel_kinds} == {"fold", "ink", "necrosis", "blood"}
    assert {kind for case in cases for kind in case.sparse_kinds} == {"fat", "loose"}


def test_nests_are_of_one_piece_without_specks_or_holes(cases: list[PhantomCase]) -> None:
    for case in cases:
        parts, count = ndimage.label(case.mask)
        inner = parts[8:-8, 8:-8]  # the image's border may cut slivers off
        assert 1 <= count <= 6
        assert all((parts == part).sum() > 150 for part in np.unique(inner[inner > 0]))


def test_the_same_generator_state_draws_the_same_case_and_another_draws_another() -> None:
    patient = draw_patient("p", np.random.default_rng(3))
    first, again, other = (draw_case(80, patient, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    np.testing.assert_array_equal(first.novel, again.novel)
    assert (first.mask != other.mask).any()


def test_colour_alone_does_not_find_the_target(cases: list[PhantomCase]) -> None:
    for name, channel in {"R": 0, "G": 1, "B": 2, "H": 3, "E": 4}.items():
        scores = []
        for case in cases:
            values = np.concatenate([case.image, rgb2hed(case.image)[..., :2]], axis=-1)[..., channel]
            above = values > threshold_otsu(values)
            scores.append(max(_dice(above, case.mask), _dice(~above, case.mask)))
        assert np.mean(scores) < 0.7, f"Otsu on {name} reaches a Dice of {np.mean(scores):.2f}"


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_mean_colour_of_target_and_background_differs_little(cases: list[PhantomCase]) -> None:
    gaps = [case.image[case.mask].mean(0) - case.image[~case.mask & ~case.novel].mean(0) for case in cases]
    assert np.abs(np.mean(gaps, axis=0)).max() < 30


def test_larger_images_hold_more_nests_of_the_same_size() -> None:
    small = [draw_layout(128, 1.0, np.random.default_rng(i)).target for i in range(4)]
    large = draw_layout(320, 1.0, np.random.default_rng(9)).target
    assert ndimage.label(large)[1] > max(ndimage.label(mask)[1] for mask in small)
    thickest = [2 * ndimage.distance_transform_edt(mask).max() for mask in (*small, large)]
    assert all(18 < diameter < 70 for diameter in thickest)


def test_patients_differ_in_stain_and_scale_within_their_ranges() -> None:
    patients = [draw_patient(f"p{i}", np.random.default_rng(i)) for i in range(40)]
    scales = [patient.scale for patient in patients]
    assert 0.8 <= min(scales) < 0.9 < 1.15 < max(scales) <= 1.25
    assert all(patient.mpp == pytest.approx(1 / patient.scale) for patient in patients)
    strengths = [np.linalg.norm(patient.eosin) for patient in patients]
    assert max(strengths) > 1.3 * min(strengths)
    hues = [np.array(patient.eosin) / np.linalg.norm(patient.eosin) for patient in patients]
    assert min(hues[0] @ hue for hue in hues) < 0.97


def test_tissue_absorbs_and_empty_fat_does_not(cases: list[PhantomCase]) -> None:
    fat = [case.image for case in cases if "fat" in case.sparse_kinds]
    assert all((image.min(axis=-1) > 215).mean() > 0.005 for image in fat)
    assert all(case.image[case.mask].mean() < 215 for case in cases)


def test_refuses_an_image_too_small_for_both_classes() -> None:
    with pytest.raises(ValueError, match=r"63 px is too small .* at least 64"):
        draw_case(63, draw_patient("p", np.random.default_rng(0)), np.random.default_rng(0))
