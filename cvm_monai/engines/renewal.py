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
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.engines.metrics import mask_dice
from cvm_monai.engines.selection import SelectionEvents, listen
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.pseudo_label import PseudoLabel

ONE_CLASS = "without points of both classes"
CHUNK = 8
"""Images for each worker that are held at once."""


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

    The network runs in evaluation mode on images that are not augmented; the solver runs in worker processes that
    import neither torch nor MONAI.

    Args:
        network: as of `build_network`; its `features` gives logits and Feature Map 2.
        supervision: its `renews` decides whether anything happens.
        dataset: the training cases with the deterministic transforms alone; `dataset.data` are their records.
        store: where the pseudo-labels go.
        device: of the network.
        workers: processes; -1 takes every core.
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
        segmenter = self.supervision.segmenter()
        bar = tqdm(total=len(self.dataset), desc="pseudo-labels", unit="image", leave=False, disable=not self.progress)
        with bar, Parallel(n_jobs=self.workers) as pool:
            for chunk in self._chunks():
                ready = [evidence for _, evidence, _ in chunk if evidence is not None]
                results = iter(pool(delayed(segmenter)(maps) for maps in ready))
                for index, evidence, probability in chunk:
                    item = self.dataset[index]
                    result = next(results) if evidence is not None else PseudoLabel(None, reason=ONE_CLASS)
                    if result.u is None:
                        skipped[result.reason] += 1
                    else:
                        labels[item["case_id"]] = result.u
                        iterations.append(result.iterations)
                        scores.append(mask_dice(torch.from_numpy(result.u > 0.5), item["mask"][0]))
                    if len(previews) < self.previews:
                        previews.append(Preview(self.dataset.data[index], item, result.u, probability))
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

    def _chunks(self) -> Iterator[Sequence[tuple[int, np.ndarray | None, np.ndarray]]]:
        """Index, evidence and probability of each image, a few for each worker at a time."""
        was_training = self.network.training
        self.network.eval()
        try:
            step = CHUNK * self.workers
            for begin in range(0, len(self.dataset), step):
                yield [self._evidence(index) for index in range(begin, min(begin + step, len(self.dataset)))]
        finally:
            self.network.train(was_training)

    def _evidence(self, index: int) -> tuple[int, np.ndarray | None, np.ndarray]:
        item = self.dataset[index]
        with torch.no_grad():
            logits, features = self.network.features(item["image"][None].to(self.device))
            probability = torch.softmax(logits[0].float(), dim=0)[1].cpu().numpy()
            if not len(item["in_points"]) or not len(item["out_points"]):
                return index, None, probability
            maps = self.supervision.evidence(
                logits[0].float(), features[0].float(), item["in_points"], item["out_points"]
            )
        return index, maps, probability
