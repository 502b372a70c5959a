"""The training engine: MONAI's trainer with the loss computed by the supervision, and a check for divergence."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from cvm_monai.engines.processes import StepWeight, average_buffers, gathered, step_weights, summed
from cvm_monai.engines.weight_average import WeightAverage
from cvm_monai.errors import CvmError
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.moving_average import bare


class PointTrainer(SupervisedTrainer):
    """`SupervisedTrainer` whose iteration gets the terms of the loss from a `Supervision`.

    After each iteration `state.output` is [{"loss": float, term: float, ...}], a list as after MONAI's decollating.
    Mixed precision follows the device: float16 with a gradient scaler on CUDA, bfloat16 on a CPU.

    An iteration is one step of the optimiser. Its batch may be a list of micro-batches (`MicroBatchCollate`), whose
    gradients are accumulated, and the network may be distributed over processes (`shared_network`): each part is
    weighted by `step_weights`, and `state.output` is that of the whole step, the same in every process.

    Args:
        supervision: computes the terms of the loss and is called after each step. `prepare` is called here, so that a
            checkpoint loaded later finds its state.
        average: follows the weights after each step, for the validation.
        channels_last: pass the images in the channels-last memory format, which is faster on GPUs with tensor cores if
            the network uses it too (`training_network`).
        kwargs: as `SupervisedTrainer`, without `loss_function`.

    Raises:
        CvmError: the loss is not finite; the message gives the epoch, the step, the terms and the cases of the batch.
    """

    def __init__(
        self,
        *,
        supervision: Supervision,
        average: WeightAverage | None = None,
        channels_last: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(loss_function=_unused, decollate=False, **kwargs)
        self.supervision, self.channels_last = supervision, channels_last
        supervision.prepare(self.network, self.optimizer)
        self.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        if average is not None:
            average.attach(self)

    def _begin_epoch(self, engine: Any) -> None:
        dataset = getattr(self.data_loader, "dataset", None)
        if dataset is not None and hasattr(dataset, "set_epoch"):  # MONAI does so for a sampler
            dataset.set_epoch(engine.state.epoch)
        self.supervision.begin_epoch(epoch=engine.state.epoch, max_epochs=engine.state.max_epochs)

    def _iteration(self, engine: Any, batchdata: Any) -> Any:  # MONAI declares a dict; this is a list
        parts = [self._moved(part) for part in (batchdata if isinstance(batchdata, list) else [batchdata])]
        weights = step_weights(self.supervision, parts)
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        found: list[dict[str, Tensor]] = []
        for part, weight in zip(parts[:-1], weights[:-1], strict=True):
            with _unshared(engine.network):
                self._backward(self._loss(part, weight, found))
        loss = self._loss(parts[-1], weights[-1], found)
        values = self._values(found, parts)
        engine.state.output = [values]  # for handlers of the events below
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        self._backward(loss)
        self._step()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        average_buffers(bare(engine.network))
        self.supervision.after_step(engine.network, engine.state.iteration)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return [values]

    def _moved(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Move the batch to the device."""
        moved = {
            key: value.to(self.state.device, non_blocking=self.non_blocking) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }
        if self.channels_last:
            moved["image"] = moved["image"].contiguous(memory_format=torch.channels_last)
        return moved

    def _loss(self, part: Mapping[str, Any], weight: StepWeight, found: list[dict[str, Tensor]]) -> Tensor:
        """Compute this part's weighted contribution to the step's loss; its terms are appended to `found`."""
        with torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs):
            terms = self.supervision.loss(self.network, part)
            weighted = {name: term.float() * weight.of(name) for name, term in terms.items()}
        found.append({name: term.detach() for name, term in weighted.items()})
        # DistributedDataParallel averages over the processes, but the weights require the sum.
        return torch.stack(list(weighted.values())).sum() * idist.get_world_size()

    def _values(self, found: Sequence[Mapping[str, Tensor]], parts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Sum the step's terms over all parts and processes, as numbers; every process raises if one is not finite."""
        own = torch.stack([torch.stack(list(terms.values())) for terms in found]).double()
        terms = summed(own.sum(dim=0))
        values = {"loss": float(terms.sum()), **dict(zip(found[0], terms.tolist(), strict=True))}
        if not torch.isfinite(terms.sum()):
            named = [part.get("case_id", ()) for part in parts]
            fine = torch.isfinite(own.sum(dim=1)).tolist()
            bad = [case for cases, good in zip(named, fine, strict=True) if not good for case in cases]
            raise CvmError(_not_finite(self, values, [case for cases in gathered(bad) for case in cases]))
        return values

    def _backward(self, loss: Tensor) -> None:
        scaler = self._used_scaler()
        (loss if scaler is None else scaler.scale(loss)).backward()

    def _step(self) -> None:
        scaler = self._used_scaler()
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()

    def _used_scaler(self) -> Any:
        """MONAI makes a gradient scaler on any device."""
        return self.scaler if self.amp and self.state.device.type == "cuda" else None


def _unshared(network: Any) -> AbstractContextManager[None]:
    """Keep gradients in this process; they are reduced with those of the step's last part."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


def _not_finite(engine: Any, values: dict[str, float], cases: Any) -> str:
    terms = ", ".join(f"{name}={value:g}" for name, value in values.items() if name != "loss")
    return (
        f"the loss is not finite in epoch {engine.state.epoch}, step {engine.state.iteration} ({terms}; "
        f"cases {', '.join(map(str, cases))}): lower --learning_rate or look at these images; "
        "the last good checkpoint is kept"
    )


def _unused(*_: Any) -> None:
    raise NotImplementedError("the supervision computes the loss")


History = Mapping[str, Sequence[tuple[int, float]]]
"""(epoch, value) of each metric, in order."""

CROSS_ENTROPIES = ("val_partial_ce", "train_partial_ce")
"""Metrics that are means of -log p: ln C for an untrained network with C classes."""
TOTAL = "train_total"
FACTOR = 50.0
"""Bound of divergence: of a cross-entropy itself, and of the total loss as a multiple of its lowest value, or of 1 if
that is lower, since weights up to 75 are ramped up in the total loss."""


def divergence(history: History, *, learning_rate: float | None = None) -> str | None:
    """Describe the divergence in the last epoch of the history; None if it has not diverged.

    Args:
        learning_rate: of the optimiser, for the message.
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


class Attachable(Protocol):
    """A handler that can be attached to an engine."""

    def attach(self, engine: Any) -> None: ...


class InOrder:
    """Attaches handlers in a fixed order.

    Args:
        handlers: in the order in which they are called at an event.
    """

    def __init__(self, handlers: Sequence[Attachable]) -> None:
        self.handlers = tuple(handlers)

    def attach(self, engine: Engine) -> None:
        """Attach all handlers."""
        for handler in self.handlers:
            handler.attach(engine)
