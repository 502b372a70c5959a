"""The Ignite handler that renews the pseudo-labels of all training images at a new validation low."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from joblib import cpu_count
from tqdm import tqdm

from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.engines.metrics import mask_dice
from cvm_monai.engines.selection import SelectionEvents, listen
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.pseudo_label import PseudoLabel

ONE_CLASS = "without points of both classes"
NOT_FINITE = "the network's features hold NaN or infinity"
CHUNK = 8
"""Images for each worker whose evidence is held at once."""
GPU_CHUNK = 128
"""Images whose evidence is held at once on a GPU."""


@dataclass(frozen=True)
class Candidate:
    """One training image: its place in the data set, its evidence or why it has none, the network's probability."""

    index: int
    evidence: torch.Tensor | None
    reason: str
    probability: np.ndarray


@dataclass(frozen=True)
class Preview:
    """What a figure of one image needs: its record and item, u and the network's probability, both (h, w)."""

    record: dict[str, Any]
    item: dict[str, Any]
    u: np.ndarray | None
    probability: np.ndarray


@dataclass(frozen=True)
class RenewalReport:
    """What a renewal did.

    Attributes:
        epoch: after which it ran.
        labelled: images that got a pseudo-label.
        skipped: how many did not, by reason.
        seconds: wall time.
        iterations: mean solver steps for each map.
        dice: mean Dice of u > 0.5 against the masks of training images; None without masks. For the eye only.
        previews: a few images for figures.
    """

    epoch: int
    labelled: int
    skipped: dict[str, int]
    seconds: float
    iterations: float
    dice: float | None
    previews: tuple[Preview, ...] = field(default=(), repr=False)


class PseudoLabelRenewal:
    """At each new low, segments every training image by the supervision's own model and swaps the store.

    The network runs in evaluation mode on images that are not augmented. The solver takes the evidence where it lies:
    on a GPU as one batch, else shared out over the cores (see `workers` of `solve`).

    Args:
        network: as of `build_network`; its `features` gives logits and Feature Map 2.
        supervision: its `renews` and `renews_once` decide whether anything happens.
        dataset: the training cases with the deterministic transforms alone; `dataset.data` are their records.
        store: where the pseudo-labels go.
        device: of the network.
        workers: cores for the solver; -1 takes every one.
        previews: how many images to keep for figures.
        progress: show a bar; by default where stderr is a terminal.
    """

    def __init__(
        self,
        *,
        network: Any,
        supervision: Supervision,
        dataset: Any,
        store: PseudoLabelStore,
        device: torch.device | str,
        workers: int = -1,
        previews: int = 3,
        progress: bool | None = None,
    ) -> None:
        self.network, self.supervision, self.dataset, self.store = network, supervision, dataset, store
        self.device = torch.device(device)
        self.workers = cpu_count() if workers < 0 else max(1, workers)
        self.previews = previews
        self.progress = sys.stderr.isatty() if progress is None else progress
        self.renewed = False

    def attach(self, engine: Engine) -> None:
        """Listen to the evaluator's new lows; forget the pseudo-labels of an earlier training."""
        if idist.get_rank() == 0:
            self.store.clear()
        if self.supervision.renews:
            listen(engine, SelectionEvents.NEW_LOW, self)

    def __call__(self, engine: Any) -> None:
        """Renew, and tell the listeners of `RENEWED` through `engine.state.renewal`.

        In a distributed training the first process renews and the others wait for it.
        """
        if self.supervision.renews_once and self.renewed:
            return
        self.renewed = True
        first = idist.get_rank() == 0
        if first:
            engine.state.renewal = self.renew(epoch=engine.state.epoch)
        idist.barrier()
        if first:
            engine.fire_event(SelectionEvents.RENEWED)

    def renew(self, *, epoch: int) -> RenewalReport:
        """Compute and publish the pseudo-labels of all images."""
        start = time.perf_counter()
        labels: dict[str, np.ndarray] = {}
        skipped: Counter[str] = Counter()
        iterations, scores = [], []
        previews: list[Preview] = []
        bar = tqdm(total=len(self.dataset), desc="pseudo-labels", unit="image", leave=False, disable=not self.progress)
        with bar:
            for chunk in self._chunks():
                for candidate, result in zip(chunk, self._results(chunk), strict=True):
                    item = self.dataset[candidate.index]
                    if result.u is None:
                        skipped[result.reason] += 1
                    else:
                        labels[item["case_id"]] = result.u
                        iterations.append(result.iterations)
                        scores.append(mask_dice(torch.from_numpy(result.u > 0.5), item["mask"][0]))
                    if len(previews) < self.previews:
                        record = self.dataset.data[candidate.index]
                        previews.append(Preview(record, item, result.u, candidate.probability))
                    bar.update()
        self.store.publish(labels)
        known = [score for score in scores if score is not None]
        return RenewalReport(
            epoch=epoch,
            labelled=len(labels),
            skipped=dict(skipped),
            seconds=time.perf_counter() - start,
            iterations=float(np.mean(iterations)) if iterations else 0.0,
            dice=float(np.mean(known)) if known else None,
            previews=tuple(previews),
        )

    def _results(self, chunk: Sequence[Candidate]) -> list[PseudoLabel]:
        """The pseudo-label of each candidate, in their order."""
        evidence = [candidate.evidence for candidate in chunk if candidate.evidence is not None]
        found = iter(self.supervision.pseudo_labels(evidence, workers=self.workers))
        return [
            PseudoLabel(None, reason=candidate.reason) if candidate.evidence is None else next(found)
            for candidate in chunk
        ]

    def _chunks(self) -> Iterator[Sequence[Candidate]]:
        """The training images, as many at a time as the solver is to have at once."""
        was_training = self.network.training
        self.network.eval()
        try:
            step = CHUNK * self.workers if self.device.type == "cpu" else GPU_CHUNK
            for begin in range(0, len(self.dataset), step):
                yield [self._candidate(index) for index in range(begin, min(begin + step, len(self.dataset)))]
        finally:
            self.network.train(was_training)

    def _candidate(self, index: int) -> Candidate:
        item = self.dataset[index]
        with torch.no_grad():
            image = item["image"][None].to(self.device)
            logits, features = self.network.features(image)
            logits, features = logits[0].float(), self.supervision.own_features(image, features)[0].float()
            probability = torch.softmax(logits, dim=0)[1].cpu().numpy()
            if not len(item["in_points"]) or not len(item["out_points"]):
                return Candidate(index, None, ONE_CLASS, probability)
            if not torch.isfinite(features).all():
                return Candidate(index, None, NOT_FINITE, probability)
            maps = self.supervision.evidence(logits, features, item["in_points"], item["out_points"])
        return Candidate(index, maps, "", probability)
