"""A score against a varied value: lines, bars, what is marked, and where the axes end."""

import numpy as np
import pytest

from cvm_monai.figures import Measured, SweepPanel, sweep_curves

LINES = {
    "weighted KL": {1.0: Measured(0.5, 0.1), 3.0: Measured(0.7, 0.02), 2.0: Measured(0.6, 0.05)},
    "cross-entropy": {1.0: Measured(0.4, 0.1), 3.0: Measured(0.7, 0.02)},
}


def _names(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_line_has_its_means_in_the_order_of_the_values_and_a_bar_of_one_spread_to_either_side():
    (axes,) = sweep_curves([SweepPanel("Pairs", LINES)]).axes
    weighted, cut = axes.containers
    assert weighted.lines[0].get_ydata().tolist() == [0.5, 0.6, 0.7]
    bars = [segment[:, 1].tolist() for segment in weighted.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [[0.4, 0.6], [0.55, 0.65], [0.68, 0.72]])
    places = [line.lines[0].get_xdata() for line in (weighted, cut)]
    np.testing.assert_allclose((places[0][0] + places[1][0]) / 2, 1)  # side by side around the value
    assert places[0][0] < places[1][0] < 1.1
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Pairs", "Dice")
    assert _names(axes) == ["weighted KL", "cross-entropy"]


def test_default_and_level_are_marked():
    panel = SweepPanel("Pairs", LINES, default=3, level=("Partial CE", Measured(0.45, 0.05)))
    (axes,) = sweep_curves([panel]).axes
    assert set(_names(axes)) == {"Partial CE", "default", "weighted KL", "cross-entropy"}
    (dotted,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert list(dotted.get_xdata()) == [3, 3]
    (dashed,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert list(dashed.get_ydata()) == [0.45, 0.45]
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.4, 0.5))


def test_panels_share_an_axis_that_holds_every_bar_and_does_not_blow_up_small_differences():
    steady = {"AOS": {0.1: Measured(0.6, 0), 10.0: Measured(0.61, 0)}}
    low, high = sweep_curves([SweepPanel("lam", steady, log=True)]).axes[0].get_ylim()
    assert (low, high) == pytest.approx((0.555, 0.655))
    first, second = sweep_curves([SweepPanel("lam", steady, log=True), SweepPanel("Pairs", LINES)]).axes
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[0] < 0.3
    assert first.get_ylim()[1] > 0.72
    assert first.get_xscale() == "log"


def test_one_value_can_be_drawn():
    (axes,) = sweep_curves([SweepPanel("eta", {"CVM": {0.6: Measured(0.7, 0.1)}})]).axes
    assert axes.containers[0].lines[0].get_xdata().tolist() == [0.6]


@pytest.mark.parametrize("panels", [[], [SweepPanel("eta", {})], [SweepPanel("eta", {"CVM": {}})]])
def test_no_score_no_plot(panels):
    with pytest.raises(ValueError, match="there is no score to draw"):
        sweep_curves(panels)
