"""Stains estimated and exchanged: composed images come apart again, and shifted copies come together."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from cvm_monai.data.stain import ColourMoments, StainEstimate, colour_moments, estimate_stains, fit_target
from cvm_monai.data.stain import normalise_stain as normalise
from cvm_monai.data.stain.macenko import change_to

from .conftest import EOSIN, HAEMATOXYLIN, tissue

WHITE = np.full((64, 64, 3), 255, dtype=np.uint8)
RUIFROK = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11))


def one_stain():
    """Haematoxylin alone, in all amounts."""
    return np.rint(240 * np.exp(-np.linspace(0, 2, 64 * 64).reshape(64, 64, 1) * HAEMATOXYLIN)).astype(np.uint8)


@pytest.mark.parametrize("vectors", [(HAEMATOXYLIN, EOSIN), RUIFROK])
def test_a_composed_image_is_decomposed_into_its_vectors_and_amounts(vectors):
    found = estimate_stains(tissue(vectors=vectors))
    expected = np.array(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    angles = np.rad2deg(np.arccos((found.vectors * expected).sum(axis=1)))
    assert angles.max() < 2
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1)


def test_the_strongest_amounts_grow_with_the_stain():
    """Twice the haematoxylin and the same eosin: the 99th percentiles say so."""
    plain, more = estimate_stains(tissue()), estimate_stains(tissue(factors=(1.6, 1.0)))
    np.testing.assert_allclose(more.strongest / plain.strongest, [1.6, 1.0], rtol=0.01)


def test_an_image_brought_to_its_own_stains_stays_as_it_is():
    image = tissue()
    for method in ("macenko", "reinhard"):
        own = fit_target([image], method=method)
        difference = np.abs(normalise(image, own).astype(int) - image)
        assert difference.max() <= 1


def test_macenko_gives_each_stain_the_target_s_vector_and_strength(stains):
    target = fit_target([tissue(seed=1)], method="macenko")
    found = estimate_stains(normalise(tissue(vectors=RUIFROK, factors=(0.7, 1.3)), target))
    np.testing.assert_allclose(found.vectors, target.reference.vectors, atol=0.002)  # grey levels are whole numbers
    np.testing.assert_allclose(found.vectors, stains, atol=0.005)
    np.testing.assert_allclose(found.strongest, target.reference.strongest, rtol=0.02)


@pytest.mark.parametrize("method, least", [("macenko", 8), ("reinhard", 1.3)])
def test_copies_that_are_stained_otherwise_come_together(method, least):
    """The mean distance of grey levels to the plain copy falls by more than such a factor."""
    plain = tissue()
    target = fit_target([plain], method=method)
    for factors in ((0.6, 1.0), (1.4, 1.0), (1.0, 0.6), (1.0, 1.4)):
        shifted = tissue(factors=factors)
        before = np.abs(shifted.astype(int) - plain).mean()
        after = np.abs(normalise(shifted, target).astype(int) - plain).mean()
        assert before > least * after


def test_each_stain_is_exchanged_and_what_neither_explains_is_dropped(stains):
    """In closed form: s_i M = (ratio of strengths) t_i, and n M = 0 for n at right angles to both stains."""
    source = StainEstimate(stains, np.array([2.0, 1.0]))
    target = StainEstimate(np.array([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0]]), np.array([1.0, 3.0]))
    change = change_to(source, target)
    np.testing.assert_allclose(stains @ change, [[0.3, 0.4, 0.0], [0.0, 3.0, 0.0]], atol=1e-12)
    across = np.cross(*stains)
    np.testing.assert_allclose(across @ change, 0, atol=1e-12)


def test_glass_stays_glass():
    target = fit_target([tissue(factors=(1.3, 1.3))], method="reinhard")
    found = normalise(tissue(), target)
    assert (found[:40, :40] == 240).all()


def test_moments_are_those_of_the_stained_pixels_in_lab():
    image = tissue()
    stained = -np.log(np.maximum(image, 1) / 240).mean(axis=-1) >= 0.15
    lab = rgb2lab(image)[stained]
    found = colour_moments(image)
    np.testing.assert_allclose(found.mean, lab.mean(axis=0))
    np.testing.assert_allclose(found.spread, lab.std(axis=0))


def test_reinhard_gives_the_target_s_moments():
    target = fit_target([tissue(seed=1)], method="reinhard")
    found = colour_moments(normalise(tissue(factors=(0.8, 1.2)), target))
    # which pixels count as stained, changes a little with the stains
    np.testing.assert_allclose(found.mean, target.reference.mean, atol=0.7)
    np.testing.assert_allclose(found.spread, target.reference.spread, rtol=0.03)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
@pytest.mark.parametrize(
    "image",
    [WHITE, np.zeros_like(WHITE), np.full_like(WHITE, 120), tissue(side=8)],
    ids=["white", "black", "flat", "tiny"],
)
def test_an_image_without_enough_tissue_has_no_stains(method, image):
    assert normalise(image, fit_target([tissue()], method=method)) is None


def test_one_stain_alone_is_not_told_apart():
    assert estimate_stains(one_stain()) is None
    assert colour_moments(one_stain()) is not None


def test_the_target_is_the_median_over_the_images_that_show_tissue():
    images = [tissue(seed=seed, factors=(factor, 1.0)) for seed, factor in enumerate((0.8, 1.0, 3.0))]
    target = fit_target(iter([*images, WHITE]), method="macenko")
    assert (target.images, target.left_out) == (3, 1)
    strengths = np.array([estimate_stains(image).strongest for image in images])
    np.testing.assert_allclose(target.reference.strongest, np.sort(strengths, axis=0)[1])
    np.testing.assert_allclose(np.linalg.norm(target.reference.vectors, axis=1), 1)
    means = np.array([colour_moments(image).mean for image in images])
    np.testing.assert_allclose(fit_target(images, method="reinhard").reference.mean, np.median(means, axis=0))


def test_none_looks_at_no_image():
    def no_image():
        raise AssertionError("an image was read")
        yield

    assert fit_target(no_image(), method="none") is None


def test_a_training_set_without_tissue_and_an_unknown_method_are_refused():
    with pytest.raises(ValueError, match=r"none of the 2 training images shows enough stained tissue .*: use none"):
        fit_target([WHITE, WHITE], method="macenko")
    with pytest.raises(ValueError, match="stain_normalisation must be one of none, macenko, reinhard, got 'vahadane'"):
        fit_target([tissue()], method="vahadane")


@pytest.mark.parametrize(
    "method, kind, own", [("macenko", StainEstimate, estimate_stains), ("reinhard", ColourMoments, colour_moments)]
)
def test_the_target_of_one_image_is_what_its_method_estimates_of_it(method, kind, own):
    target = fit_target([tissue()], method=method)
    assert (target.method, target.images, target.left_out) == (method, 1, 0)
    assert type(target.reference) is kind
    found, expected = vars(target.reference), vars(own(tissue()))
    assert found.keys() == expected.keys() != set()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12)
