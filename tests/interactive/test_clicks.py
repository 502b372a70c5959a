"""From features and clicks to u: what the constants do, how a network is corrected, and what is said where it fails."""

import numpy as np
import pytest
import torch

from cvm_monai.interactive import COLD, ClickModel, ColdFeatures, click_evidence, clicks, recorded_model, segment_clicks

INSIDE, OUTSIDE = np.array([[8, 4]]), np.array([[8, 20]])


@pytest.fixture
def halves():
    """Two kinds of vectors, left and right of column 12, with some noise: (3, 16, 24)."""
    features = torch.zeros(3, 16, 24)
    features[0, :, :12], features[1, :, 12:] = 1.0, 1.0
    return features + 0.05 * torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_two_clicks_give_the_two_halves(halves):
    found = segment_clicks(halves, INSIDE, OUTSIDE)
    np.testing.assert_array_equal(found.u > 0.5, np.arange(24) < 12 * np.ones((16, 1)))
    assert found.reason == ""
    assert len(found.statuses) == 1


def test_evidence_is_one_map_but_where_each_click_is_solved_alone(halves):
    inside = np.array([[8, 4], [2, 2], [14, 10]])
    assert click_evidence(halves, inside, OUTSIDE).shape == (1, 16, 24)
    assert click_evidence(halves, inside, OUTSIDE, model=ClickModel(combination="mean")).shape == (3, 16, 24)


def test_a_network_that_errs_is_corrected_where_tissue_resembles_the_clicks(halves):
    """It calls everything target; one click says that the right half is not."""
    everything = torch.full((16, 24), 0.9)
    found = segment_clicks(halves, INSIDE, OUTSIDE, probability=everything)
    assert (found.u[:, :12] > 0.5).all()
    assert (found.u[:, 12:] < 0.5).all()


def test_without_contrast_the_network_decides():
    """Features that say nothing leave its own answer: the discriminant has nothing to learn from."""
    probability = torch.where(torch.arange(16)[:, None] < 8, 0.9, 0.1).expand(16, 24)
    maps = click_evidence(torch.ones(3, 16, 24), INSIDE, OUTSIDE, probability=probability)
    assert float(maps[0, :8].min()) > float(maps[0, 8:].max())


def test_clicks_that_cannot_be_told_apart_give_no_u_but_a_reason():
    found = segment_clicks(torch.ones(3, 16, 24), INSIDE, OUTSIDE)
    assert found.u is None
    assert "constant" in found.reason


def test_a_model_is_a_training_s_constants_and_the_defaults_for_what_it_did_not_record():
    knobs = {"eta": 0.3, "solver": "aos", "iterations": 50, "contrast": "one_sided", "combination": None, "lam": None}
    expected = ClickModel(eta=0.3, solver="aos", iterations=50, contrast="one_sided")
    assert recorded_model(knobs | {"network": "unet"}) == expected
    assert (expected.lam, expected.combination) == (COLD.lam, COLD.combination)


@pytest.mark.parametrize("change", [{"centre": "median"}, {"eta": 2.0}, {"lam": 0.0}, {"discriminant": -1.0}])
def test_a_constant_out_of_its_range_is_named(halves, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        segment_clicks(halves, INSIDE, OUTSIDE, model=ClickModel(**change))


def test_pretrained_features_lie_on_a_grid_of_a_quarter_and_say_their_parts():
    cold = ColdFeatures().eval()
    found = cold(torch.randn(1, 3, 262, 301, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (1, sum(cold.parts), 66, 76)
    assert cold(torch.zeros(1, 3, 70, 101)).shape[2:] == (53, 76)  # enlarged three times
    assert cold.kind == "imagenet"
    assert not found.requires_grad


def test_lam_means_the_same_on_a_coarser_grid(halves, monkeypatch):
    """On a grid of 4 px for each feature, and of 8 where the maps are pooled once more, areas count as in the image."""
    asked = []
    real = clicks.solve
    monkeypatch.setattr(clicks, "solve", lambda maps, **rest: asked.append(rest["lam"]) or real(maps, **rest))
    segment_clicks(halves, INSIDE, OUTSIDE, model=ClickModel(lam=0.25), spacing=4)
    monkeypatch.setattr(clicks, "MAX_SOLVED", 16 * 24 // 4)
    segment_clicks(halves, INSIDE, OUTSIDE, model=ClickModel(lam=0.25), spacing=4)
    assert asked == [1.0, 2.0]
