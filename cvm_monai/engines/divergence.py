"""Whether a training has diverged: its loss is far above what any network that learns has."""

from collections.abc import Mapping, Sequence

History = Mapping[str, Sequence[tuple[int, float]]]
"""(epoch, value) of each metric, in order."""

CROSS_ENTROPIES = ("val_partial_ce", "train_partial_ce")
"""Means of -log p: ln C where a network knows nothing."""
TOTAL = "train_total"
FACTOR = 50.0
"""A cross-entropy above it has diverged, as has a total loss so many times above its lowest, or above 1 where that is
lower: weights up to 75 are ramped up in the latter."""


def divergence(history: History, *, learning_rate: float | None = None) -> str | None:
    """A sentence where the last epoch in the history has diverged; None where it has not.

    Args:
        learning_rate: of the optimiser, for the sentence.
    """
    total = [value for _, value in history.get(TOTAL, ())]
    bounds = dict.fromkeys(CROSS_ENTROPIES, FACTOR) | {TOTAL: FACTOR * max(1.0, min(total, default=1.0))}
    last = {name: history[name][-1] for name in bounds if history.get(name)}
    found = {name: point for name, point in last.items() if point[1] > bounds[name]}
    if not found:
        return None
    epoch = max(epoch for epoch, _ in found.values())
    values = ", ".join(f"{name} {value:.3g}" for name, (_, value) in found.items())
    rate = "" if learning_rate is None else f", which is {learning_rate:g},"
    return f"the training has diverged: {values} in epoch {epoch}; lower --learning_rate{rate} and train again"
