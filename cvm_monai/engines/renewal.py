"""The Ignite handler that recomputes the pseudo-labels of all training images at a new validation low."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from joblib import cpu_count
from tqdm import tqdm

from cvm_monai.data.epochs import shard_of
from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.engines.item_evidence import ItemEvidence, feature_sums, item_evidence, mean_of_sums, solve_items
from cvm_monai.engines.metrics import mask_dice
from cvm_monai.engines.processes import from_first, gathered
from cvm_monai.engines.renewal_plan import RenewalPlan
from cvm_monai.engines.selection import SelectionEvents, listen
from cvm_monai.errors import CvmError
from cvm_monai.losses.checks import check_whole
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.moving_average import bare
from cvm_monai.supervision.pseudo_label import PseudoLabel
from cvm_monai.variational.grid import on_full_grid

CHUNK = 8
"""Images per worker whose evidence is held at the same time."""
GPU_CHUNK = 128
"""Images whose evidence is held at the same time on a GPU."""


@dataclass(frozen=True)
class Candidate:
    """One training image: its index, its evidence, and the network's foreground probability of each pixel."""

    index: int
    found: ItemEvidence
    probability: np.ndarray


@dataclass(frozen=True)
class Preview:
    """Data for the figure of one image: its record and item, u and the network's probability, both (h, w).

    With more than two classes, both are those of all foreground classes merged.
    """

    record: dict[str, Any]
    item: dict[str, Any]
    u: np.ndarray | None
    probability: np.ndarray


@dataclass(frozen=True)
class RenewalReport:
    """Result of a renewal.

    Attributes:
        epoch: after which the renewal ran.
        labelled: images that got a pseudo-label.
        skipped: number of images without a pseudo-label, by reason.
        seconds: wall time.
        iterations: mean solver steps per map.
        dice: mean Dice against the masks of training images, of u > 0.5 (or the argmax, with more than two classes);
            None without masks. For information only.
        unchanged: pseudo-labels that equal those before within the store's tolerance, and were not written again.
        stored_mib: size of the store with all that it keeps.
        previews: a few images for figures.
    """

    epoch: int
    labelled: int
    skipped: dict[str, int]
    seconds: float
    iterations: float
    dice: float | None
    unchanged: int = 0
    stored_mib: float = 0.0
    previews: tuple[Preview, ...] = field(default=(), repr=False)


@dataclass
class _Shard:
    """Results of one process for its shard of the images."""

    labels: dict[str, np.ndarray] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    iterations: list[float] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)


class PseudoLabelRenewal:
    """Recomputes the pseudo-labels of all training images at each new low, and at other epochs if requested.

    The supervision segments every image; the results replace the store's contents. The network runs in
    evaluation mode on images without augmentation. The solver runs on the device of the evidence: on a GPU as one
    batch, else in parallel on the CPU cores (see `workers` of `solve`).

    Args:
        network: as of `build_network`; its `features` gives logits and Feature Map 2.
        supervision: its `renews` and `renews_once` decide whether anything happens.
        dataset: the training cases with the deterministic transforms only; `dataset.data` holds their records.
        store: where the pseudo-labels go.
        device: of the network.
        classes: number of classes of the network. With more than two, the points of each foreground class are
            contrasted with those of all other classes, and `join_classes` combines the results into one pseudo-label.
        first: first epoch with pseudo-labels; raising it waits for better features, where early ones mislead; 0 (the
            paper) to half of the training.
        every: epochs after which pseudo-labels are renewed even without a new low, counted from `first`; 0 (the paper):
            never; a small number keeps u up to date if there are few validation points; 1 to 10.
        below: make pseudo-labels only while validation's `metric` is below this. None (the paper): at every new low,
            including the first epoch's, though the network may have learnt nothing yet. Lowering it waits for a better
            network; from ln 2 = 0.693, the value of an untrained network with two classes, down to 0.4.
        plan: which share of the training's computation renewals may take. A new low that comes too soon is made up for
            at the first validation that the plan allows; `every` does not ask the plan. None (the paper): no limit.
        spacing: features to a cell of the grid on which u is solved, in each direction; 1 (the paper) solves on every
            feature; None: by the size of the map, see `spacing_for`.
        metric: name of the validation's partial cross-entropy in `engine.state.metrics`.
        workers: cores for the solver; -1: all cores, divided among the processes of the training on this machine.
        previews: how many images to keep for figures.
        progress: show a bar; by default if stderr is a terminal.
        keep: keep the pseudo-labels of an earlier training, from which `Checkpoints` chooses.
    """

    def __init__(
        self,
        *,
        network: Any,
        supervision: Supervision,
        dataset: Any,
        store: PseudoLabelStore,
        device: torch.device | str,
        classes: int = 2,
        first: int = 0,
        every: int = 0,
        below: float | None = None,
        plan: RenewalPlan | None = None,
        spacing: int | None = None,
        metric: str = "val_partial_ce",
        workers: int = -1,
        previews: int = 3,
        progress: bool | None = None,
        keep: bool = False,
    ) -> None:
        check_whole("first", first, low=0)
        check_whole("every", every, low=0)
        if below is not None and not below > 0:
            raise CvmError(f"below must be a number greater than 0, or None, got {below!r}")
        self.network: Any = bare(network)
        self.supervision, self.dataset, self.store = supervision, dataset, store
        self.device, self.classes = torch.device(device), classes
        self.first, self.every = first, every
        self.below, self.metric = below, metric
        self.plan, self.spacing = plan or RenewalPlan(), spacing
        self.done, self.pending = 0, False
        self.workers = max(1, cpu_count() // idist.get_nproc_per_node() if workers < 0 else workers)
        self.previews = previews
        self.progress = (sys.stderr.isatty() if progress is None else progress) and idist.get_rank() == 0
        self.keep, self.renewed = keep, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch of the last renewal, the number of renewals, and whether a new low still waits for one."""
        return {"renewed": self.renewed, "done": self.done, "pending": self.pending}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.renewed = state["renewed"]
        self.done, self.pending = state.get("done", 0), state.get("pending", False)

    def attach(self, engine: Engine) -> None:
        """Add the handlers for the evaluator's new lows; clear the pseudo-labels of an earlier training."""
        if idist.get_rank() == 0 and not self.keep:
            self.store.clear()
        idist.barrier()
        if self.supervision.renews:
            listen(engine, SelectionEvents.NEW_LOW, self._at_low)
            engine.add_event_handler(Events.COMPLETED, self._at_end)

    def _at_low(self, engine: Any) -> None:
        """Renew now if the plan allows it, else remember the low."""
        if engine.state.epoch < self.first:
            return
        self.pending = not self.plan.allows(epoch=engine.state.epoch, done=self.done, dataset=self.dataset)
        if not self.pending:
            self(engine)

    def _at_end(self, engine: Any) -> None:
        """Renew if the interval has passed, or a low still waits, and no new low has just triggered a renewal."""
        epoch = engine.state.epoch
        if self.renewed == epoch:
            return
        waited = epoch - self.first
        interval = self.every and waited >= 0 and waited % self.every == 0
        if interval or (self.pending and self.plan.allows(epoch=epoch, done=self.done, dataset=self.dataset)):
            self(engine)

    def __call__(self, engine: Any) -> None:
        """Renew, and fire `RENEWED` with the report in `engine.state.renewal`.

        In a distributed training each process renews its shard, and rank 0 fires the event.
        """
        if engine.state.epoch < self.first or (self.supervision.renews_once and self.renewed):
            return
        if self.below is not None and not from_first(engine.state.metrics[self.metric] < self.below):
            return
        self.renewed, self.pending = engine.state.epoch, False
        self.done += 1
        engine.state.renewal = self.renew(epoch=engine.state.epoch)
        if idist.get_rank() == 0:
            engine.fire_event(SelectionEvents.RENEWED)

    def renew(self, *, epoch: int) -> RenewalReport:
        """Compute and publish the pseudo-labels of all images; every process of a training must call it.

        Each process segments and writes its shard of the images (`shard_of`); rank 0 publishes the complete set; all
        processes return once they see it.
        """
        start, rank = time.perf_counter(), idist.get_rank()
        version = from_first(self.store.begin() if rank == 0 else 0)
        shard = shard_of(len(self.dataset), rank=rank, world=idist.get_world_size())
        if self.supervision.needs_mean:
            sums = feature_sums(
                self.network, self.supervision, self.dataset, shard, device=self.device, spacing=self.spacing
            )
            self.supervision.mean_features = mean_of_sums(gathered(sums))
        own = self._renew_shard(shard)
        files = self.store.write(own.labels, version=version, writer=rank)
        parts = gathered((files, own.skipped, own.iterations, own.scores, self.store.unchanged))
        if rank == 0:
            self.store.commit(version, {case: file for part in parts for case, file in part[0].items()})
        idist.barrier()
        self.store.wait_for(version)
        iterations = [steps for part in parts for steps in part[2]]
        known = [score for part in parts for score in part[3] if score is not None]
        return RenewalReport(
            epoch=epoch,
            labelled=sum(len(part[0]) for part in parts),
            skipped=dict(sum((part[1] for part in parts), Counter())),
            seconds=time.perf_counter() - start,
            unchanged=sum(part[4] for part in parts),
            stored_mib=self.store.stored_bytes() / 2**20 if rank == 0 else 0.0,
            iterations=float(np.mean(iterations)) if iterations else 0.0,
            dice=float(np.mean(known)) if known else None,
            previews=tuple(own.previews),
        )

    def _renew_shard(self, shard: range) -> "_Shard":
        """Segment the images of a shard of the data set."""
        own = _Shard()
        bar = tqdm(total=len(shard), desc="pseudo-labels", unit="image", leave=False, disable=not self.progress)
        with bar:
            for chunk in self._chunks(shard):
                for candidate, result in zip(chunk, self._results(chunk), strict=True):
                    item = self.dataset[candidate.index]
                    if result.u is None:
                        own.skipped[result.reason] += 1
                    else:
                        own.labels[item["case_id"]] = result.u
                        own.iterations.append(result.iterations)
                        own.scores.append(self._score(result.u, item["mask"][0]))
                    if len(own.previews) < self.previews:
                        record = self.dataset.data[candidate.index]
                        u = None if result.u is None else on_full_grid(result.u, candidate.probability.shape)
                        own.previews.append(Preview(record, item, self._foreground(u), candidate.probability))
                    bar.update()
        return own

    def _results(self, chunk: Sequence[Candidate]) -> list[PseudoLabel]:
        """Compute the pseudo-label of each candidate, in their order."""
        return solve_items(
            self.supervision, [candidate.found for candidate in chunk], classes=self.classes, workers=self.workers
        )

    def _score(self, u: np.ndarray, mask: torch.Tensor) -> float | None:
        """Dice of a pseudo-label on the mask's grid."""
        full = on_full_grid(u, (int(mask.shape[0]), int(mask.shape[1])))
        return None if full is None else mask_dice(self._likeliest(full), mask, classes=self.classes)

    def _likeliest(self, u: np.ndarray) -> torch.Tensor:
        """Class numbers (h, w) of a pseudo-label: argmax, or u > 0.5 for two classes."""
        return torch.from_numpy(u > 0.5 if self.classes == 2 else u.argmax(axis=0))

    def _foreground(self, u: np.ndarray | None) -> np.ndarray | None:
        """Foreground part (h, w) of each pixel of a pseudo-label, all foreground classes merged."""
        return u if u is None or self.classes == 2 else 1 - u[0]

    def _chunks(self, shard: range) -> Iterator[Sequence[Candidate]]:
        """Split the images of a shard into chunks for the solver."""
        was_training = self.network.training
        self.network.eval()
        try:
            step = CHUNK * self.workers if self.device.type == "cpu" else GPU_CHUNK
            for begin in range(0, len(shard), step):
                yield [self._candidate(index) for index in shard[begin : begin + step]]
        finally:
            self.network.train(was_training)

    def _candidate(self, index: int) -> Candidate:
        found = item_evidence(
            self.network,
            self.supervision,
            self.dataset[index],
            device=self.device,
            spacing=self.spacing,
            classes=self.classes,
        )
        probability = torch.softmax(found.logits.float(), dim=0)[1:].sum(dim=0).cpu().numpy()
        return Candidate(index, found, probability)
