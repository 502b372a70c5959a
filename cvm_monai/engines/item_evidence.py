"""Evidence for the pseudo-label of one image, on the grid on which u is solved, and the solved u."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.networks.utils import eval_mode

from cvm_monai.annotations import TARGET
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.categorical import join_classes
from cvm_monai.supervision.pseudo_label import PseudoLabel
from cvm_monai.variational.grid import coarser, spacing_for

ONE_CLASS = "without points of both classes"
ONE_KIND = "without points of background and of another class"
NOT_FINITE = "the network's features hold NaN or infinity"


@dataclass(frozen=True)
class ItemEvidence:
    """What the network and the points of one image say.

    Attributes:
        logits: (C, h, w) of the network, on its own grid.
        spacing: of the evidence's grid, in cells of the logits.
        maps: evidence (P, h, w) by foreground class; empty where `reason` says why.
        reason: why there is no evidence, or an empty string.
    """

    logits: torch.Tensor
    spacing: int
    maps: Mapping[int, torch.Tensor] = field(default_factory=dict)
    reason: str = ""


def item_evidence(
    network: Any,
    supervision: Supervision,
    item: Mapping[str, Any],
    *,
    device: torch.device | str,
    spacing: int | None,
    classes: int,
) -> ItemEvidence:
    """Compute the logits of one image and the evidence at its points, with the network in evaluation mode.

    Args:
        network: as of `build_network`; `features` is called only for a supervision that reads the network's features.
        item: of the data set of renewals: `image`, `in_points`, `out_points` and, with several classes, `in_labels`.
        spacing: features to a cell of the grid; None: see `spacing_for`.
        classes: number of classes of the network.
    """
    with eval_mode(network):
        image = item["image"][None].to(device)
        logits, features = _passed(network, supervision, image)
        step = _step(logits, spacing)
        if not len(item["in_points"]) or not len(item["out_points"]):
            return ItemEvidence(logits[0], step, reason=ONE_CLASS if classes == 2 else ONE_KIND)
        on_grid, features = coarser(logits, step)[0], coarser(features, step)
        features = supervision.own_features(image, features).float()
        if not torch.isfinite(features).all():
            return ItemEvidence(logits[0], step, reason=NOT_FINITE)
        points = {**item, **{name: item[name] // step for name in ("in_points", "out_points")}}
        maps = class_evidence(supervision, on_grid, features[0], points, classes=classes)
    return ItemEvidence(logits[0], step, maps)


def _passed(network: Any, supervision: Supervision, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute logits and features of an image; the logits in place of features that the supervision does not read."""
    if supervision.reads_features:
        return network.features(image)
    logits = network(image)  # features at the logits' size can take a hundred times their memory
    return logits, logits


def _step(maps: torch.Tensor, spacing: int | None) -> int:
    """Return the spacing of the grid on which u of these maps (1, C, h, w) is solved."""
    height, width = maps.shape[-2:]
    return spacing_for((height, width), spacing)


def solve_items(
    supervision: Supervision, items: Sequence[ItemEvidence], *, classes: int, workers: int = 1
) -> list[PseudoLabel]:
    """Compute the pseudo-label of each image, all maps solved together; with several classes, `join_classes`."""
    maps = [one for item in items for one in item.maps.values()]
    spacings = [item.spacing for item in items for _ in item.maps]
    found = iter(supervision.pseudo_labels(maps, spacings=spacings, workers=workers))
    return [_joined(item, {label: next(found) for label in item.maps}, classes) for item in items]


def _joined(item: ItemEvidence, found: Mapping[int, PseudoLabel], classes: int) -> PseudoLabel:
    if not found:
        return PseudoLabel(None, reason=item.reason)
    return found[TARGET] if classes == 2 else join_classes(found, classes=classes)


def feature_sums(
    network: Any,
    supervision: Supervision,
    dataset: Any,
    indices: Sequence[int],
    *,
    device: torch.device | str,
    spacing: int | None,
) -> tuple[torch.Tensor | None, int]:
    """Sum over some images of the spatial mean of their `own_features` (C,), on the CPU, and the number of images.

    Args:
        spacing: of the grid on which the features are taken, as in `item_evidence`.
    """
    total: torch.Tensor | None = None
    with eval_mode(network):
        for index in indices:
            image = dataset[index]["image"][None].to(device)
            _, features = _passed(network, supervision, image)
            features = coarser(features, _step(features, spacing))
            found = supervision.own_features(image, features)[0].double().mean(dim=(1, 2)).cpu()
            total = found if total is None else total + found
    return total, len(indices)


def mean_of_sums(parts: Sequence[tuple[torch.Tensor | None, int]]) -> torch.Tensor | None:
    """Combine the `feature_sums` of several processes into the mean over all images; float32."""
    known = [total for total, _ in parts if total is not None]
    return torch.stack(known).sum(dim=0).div(sum(count for _, count in parts)).float() if known else None


def class_evidence(
    supervision: Supervision, logits: torch.Tensor, features: torch.Tensor, item: Mapping[str, Any], *, classes: int
) -> dict[int, torch.Tensor]:
    """Compute the evidence of each foreground class that has points in an item, against the points of all others."""
    inside, outside = item["in_points"], item["out_points"]
    if classes == 2:
        return {TARGET: supervision.evidence(logits, features, inside, outside)}
    labels = item["in_labels"]
    return {
        label: supervision.evidence(
            logits,
            features,
            inside[labels == label],
            np.concatenate([outside, inside[labels != label]]),
            target=label,
        )
        for label in sorted(set(labels.tolist()))
    }
