"""Training curves and the Dice of every case."""

import numpy as np
import pytest

from cvm_monai.figures import dice_box, palette, save_figure, training_curves

HISTORY = {
    "train_partial_ce": [(1, 0.6), (2, 0.4), (3, 0.3)],
    "train_weighted_kl": [(2, 0.05), (3, 0.04)],
    "val_partial_ce": [(1, 0.5), (2, 0.35), (3, 0.45)],
    "val_dice": [(1, 0.3), (2, 0.6), (3, 0.7)],
    "pseudo_label_dice": [(1, 0.4)],
}


def _labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_losses_and_scores_have_a_panel_each_and_words_for_names():
    losses, scores = training_curves(HISTORY, renewals=[1, 2]).axes
    assert _labels(losses) == [
        "partial CE (training)",
        "weighted KL (training)",
        "partial CE (validation)",
        "lowest",
        "pseudo-labels renewed",
    ]
    assert _labels(scores) == ["Dice (validation)", "Dice of pseudo-labels", "pseudo-labels renewed"]
    assert scores.get_ylim() == (0, 1.02)
    assert scores.get_xlabel() == "Epoch"


def test_a_curve_runs_through_its_values_and_the_lowest_validation_is_ringed():
    lines = training_curves(HISTORY).axes[0].lines
    np.testing.assert_array_equal(lines[0].get_xydata(), HISTORY["train_partial_ce"])
    np.testing.assert_array_equal(lines[3].get_xydata(), [[2, 0.35]])
    assert lines[2].get_color() == lines[3].get_color() == palette.INK


def test_each_renewal_is_a_tick_at_its_epoch():
    ticks = training_curves(HISTORY, renewals=[1, 3]).axes[0].lines[-2:]
    assert [tick.get_xdata()[0] for tick in ticks] == [1, 3]
    assert ticks[0].get_ydata()[1] < 0.1  # of the axes' height


def test_without_scores_there_is_one_panel_and_one_epoch_is_visible():
    figure = training_curves({"train_total": [(1, 0.5)]})
    assert len(figure.axes) == 1
    assert figure.axes[0].lines[0].get_marker() == "o"


@pytest.mark.parametrize("last, scale", [(0.02, "linear"), (0.002, "log"), (0.0, "linear")])
def test_the_loss_axis_is_logarithmic_where_positive_losses_span_two_decades(last, scale):
    figure = training_curves({"train_total": [(1, 1.0), (2, last)]})
    assert figure.axes[0].get_yscale() == scale


def test_a_diverged_loss_leaves_a_gap(tmp_path):
    figure = training_curves({"val_partial_ce": [(1, 0.5), (2, float("inf")), (3, float("nan"))]})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [0.5, np.nan, np.nan])
    assert save_figure(figure, tmp_path / "curves.png").is_file()


def test_an_empty_history_is_refused():
    with pytest.raises(ValueError, match="the history is empty"):
        training_curves({"train_total": []})


def test_every_defined_case_is_a_point_and_the_worst_is_named():
    figure = dice_box({"a": 0.8, "b": 0.3, "c": None, "d": float("nan"), "e": 0.8}, title="fold 0")
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0.3, 0.8, 0.8])
    assert len(set(zip(*axes.lines[0].get_data(), strict=True))) == 3  # equal values stand side by side
    assert [text.get_text() for text in axes.texts] == ["b"]
    assert axes.get_xlabel() == "Dice (3 images, 2 without a Dice left out)"
    assert axes.get_title() == "fold 0"


def test_the_box_spans_the_quartiles():
    values = np.linspace(0.2, 1.0, 9)
    axes = dice_box({str(value): value for value in values}).axes[0]
    box = axes.patches[0]
    assert (box.get_x(), box.get_width()) == pytest.approx((0.4, 0.4))


def test_one_case_can_be_drawn(tmp_path):
    assert save_figure(dice_box({"only_$case": 0.7}), tmp_path / "box.png").is_file()


def test_a_run_without_any_dice_is_refused():
    with pytest.raises(ValueError, match="no case has a Dice"):
        dice_box({"a": None})
