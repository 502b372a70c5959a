"""Training curves: loss terms, validation partial cross-entropy and any scores against the epoch."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cvm_monai.errors import CvmError
from cvm_monai.figures import palette

Curve = Sequence[tuple[int, float]]

SCORES = ("dice", "accuracy", "precision", "kappa", "auc")
"""A curve whose name ends in one of these lies in [0, 1] and gets its own panel."""

SELECTION = "val_partial_ce"
"""The curve that selects the model: drawn in black, with a ring at its minimum."""

FEW = 20
"""Curves with at most this many values show each value as a dot."""

KNOWN = {
    "partial_ce": "partial CE",
    "weighted_kl": "weighted KL",
    "dice": "Dice",
    "auc": "AUC",
    "pseudo_label_dice": "Dice of pseudo-labels",
}
"""Display names; other names only have their underscores replaced."""

LOG_SPAN = 100
"""Losses that span more than this factor are drawn on a logarithmic axis."""


def training_curves(history: Mapping[str, Curve], *, renewals: Sequence[int] = ()) -> Figure:
    """Draw every curve of a training.

    Args:
        history: (epoch, value) pairs by name, such as `train_partial_ce`, `val_partial_ce`, `val_dice`; a value that
            is not finite leaves a gap.
        renewals: epochs after which the pseudo-labels were renewed, drawn as ticks that rise from the axis.

    Raises:
        CvmError: no curve has a value.
    """
    curves = {name: np.array(curve, dtype=np.float64) for name, curve in history.items() if len(curve)}
    if not curves:
        raise CvmError("the history is empty: there is no curve to draw before the first epoch is over")
    losses = {name: curve for name, curve in curves.items() if not name.endswith(SCORES)}
    scores = {name: curve for name, curve in curves.items() if name.endswith(SCORES)}
    colours = _colours(curves)
    groups = [(label, group) for label, group in (("Loss", losses), ("Score", scores)) if group]
    figure = Figure(figsize=(6.3, 0.5 + 2.3 * len(groups)), dpi=palette.DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    stack = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, group) in zip(stack, groups, strict=True):
        _draw(axes, group, colours, renewals)
        axes.set_ylabel(label, fontsize=palette.TEXT_SIZE, color=palette.INK)
        if label == "Score":
            axes.set_ylim(0, 1.02)
        elif _spans_decades(group):
            axes.set_yscale("log")
    stack[-1].set_xlabel("Epoch", fontsize=palette.TEXT_SIZE, color=palette.INK)
    stack[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _draw(axes: Axes, curves: Mapping[str, np.ndarray], colours: Mapping[str, str], renewals: Sequence[int]) -> None:
    for name, curve in curves.items():
        values = np.where(np.isfinite(curve[:, 1]), curve[:, 1], np.nan)
        style: dict[str, Any] = {"color": colours[name], "linewidth": 1.4, "markersize": 3}
        axes.plot(curve[:, 0], values, marker="o" if len(curve) <= FEW else None, label=_words(name), **style)
        if name == SELECTION and not np.isnan(values).all():
            lowest = int(np.nanargmin(values))
            ring: dict[str, Any] = {"marker": "o", "markersize": 6, "markerfacecolor": "none", "linestyle": "none"}
            axes.plot(curve[lowest, 0], values[lowest], color=palette.INK, label="lowest", **ring)
    for index, epoch in enumerate(renewals):
        label = None if index else "pseudo-labels renewed"
        axes.axvline(epoch, ymax=0.05, color=palette.MUTED, linewidth=1.2, label=label)
    tidy(axes)
    axes.grid(axis="y", color=palette.FAINT, linewidth=0.5)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=palette.SMALL_SIZE,
        labelcolor=palette.INK,
        handlelength=1.6,
    )


def tidy(axes: Axes) -> None:
    """Style axes: thin left and lower spines only, small ticks, grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(linewidth=0.6, color=palette.MUTED)
    axes.tick_params(length=3, width=0.6, labelsize=palette.SMALL_SIZE, color=palette.MUTED, labelcolor=palette.INK)
    axes.set_axisbelow(True)


def _colours(names: Iterable[str]) -> dict[str, str]:
    """Assign black to the curve that selects, and the palette in order to the others, unique over all panels."""
    others = [name for name in names if name != SELECTION]
    return {SELECTION: palette.INK} | dict(zip(others, cycle(palette.LINES), strict=False))


def _spans_decades(curves: Mapping[str, np.ndarray]) -> bool:
    values = np.concatenate([curve[:, 1] for curve in curves.values()])
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > LOG_SPAN * values.min())


def _words(name: str) -> str:
    """Convert `val_partial_ce` to `partial CE (validation)`."""
    for prefix, word in (("train_", "training"), ("val_", "validation")):
        if name.startswith(prefix):
            return f"{_words(name.removeprefix(prefix))} ({word})"
    return KNOWN.get(name, name.replace("_", " "))
