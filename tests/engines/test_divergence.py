"""A training whose loss grows without bound says so."""

import pytest

from cvm_monai.engines.trainer import divergence


def history(**values) -> dict[str, list[tuple[int, float]]]:
    return {name: list(enumerate(series, start=1)) for name, series in values.items()}


@pytest.mark.parametrize(
    "values, words",
    [
        ({"train_total": [0.7, 1e19]}, "train_total 1e+19 in epoch 2; lower --learning_rate, which is 5, and train"),
        ({"val_partial_ce": [1e19]}, "val_partial_ce 1e+19 in epoch 1"),
        ({"train_partial_ce": [200.0], "val_partial_ce": [float("inf")]}, "val_partial_ce inf, train_partial_ce 200"),
    ],
)
def test_a_loss_out_of_all_bounds_is_a_divergence(values, words):
    assert words in divergence(history(**values), learning_rate=5)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"val_partial_ce": [float("nan")]},
        {"train_total": [0.7, 30.0], "val_partial_ce": [0.7, 8.0]},  # weights ramped up; few points, all wrong
        {"train_total": [1e19, 0.5], "val_partial_ce": [0.7, 0.6]},  # one that came back
        {"train_total": [400.0, 390.0]},  # a loss of another scale
    ],
)
def test_a_loss_that_is_high_or_came_back_is_none(values):
    assert divergence(history(**values)) is None
