"""Combine the soft segmentations of the foreground classes into a distribution over all classes."""

from collections.abc import Mapping

import numpy as np

from cvm_monai.supervision.pseudo_label import PseudoLabel

UNKNOWN = -1.0
"""Value in the channel of a class that a pseudo-label does not cover."""


def join_classes(found: Mapping[int, PseudoLabel], *, classes: int) -> PseudoLabel:
    """Combine the u_c of an image into one pseudo-label (C, h, w): background = 1 - max_c u_c, divided by their sum.

    A class without u_c (it has no points in this image, or its solve ended with one phase empty) stays unknown: nobody
    said that it is absent, and u_c = 0 would teach its absence with full weight wherever it merely was not clicked. The
    loss compares only the other classes with each other. For two classes the target's channel is u itself.

    Args:
        found: the result of each foreground class that has points, by its number from 1.
        classes: C, background among them.
    """
    known = {label: entry.u for label, entry in found.items() if entry.u is not None}
    iterations = [entry.iterations for entry in found.values() if entry.u is not None]
    if not known:
        reasons = sorted({part for entry in found.values() for part in entry.reason.split("; ") if part})
        return PseudoLabel(None, reason="; ".join(reasons))
    shape = next(iter(known.values())).shape
    q = np.full((classes, *shape), UNKNOWN, dtype=np.float32)
    foreground = np.stack(list(known.values()))
    background = 1 - foreground.max(axis=0)
    total = background + foreground.sum(axis=0)
    q[0] = background / total
    for label, u in known.items():
        q[label] = u / total
    return PseudoLabel(q, iterations=float(np.mean(iterations)))
