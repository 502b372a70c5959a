"""The training engine: MONAI's, with the loss left to the supervision."""

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor

from cvm_monai.engines.weight_average import WeightAverage
from cvm_monai.supervision.base import Supervision


class PointTrainer(SupervisedTrainer):
    """`SupervisedTrainer` whose iteration asks a `Supervision` for the terms of the loss.

    After each iteration `state.output` is [{"loss": float, term: float, ...}], a list as after MONAI's decollating.
    Mixed precision follows the device: float16 with a gradient scaler on CUDA, bfloat16 on a CPU.

    Args:
        supervision: gives the terms of the loss and is told of each step. It is prepared here, so that a checkpoint
            loaded later finds all that it fills.
        average: follows the weights after each step, for the validation.
        kwargs: as `SupervisedTrainer`, without `loss_function`.

    Raises:
        ValueError: a loss that is not finite, with the epoch, the step, the terms and the cases of the batch.
    """

    def __init__(self, *, supervision: Supervision, average: WeightAverage | None = None, **kwargs: Any) -> None:
        super().__init__(loss_function=_unused, decollate=False, **kwargs)
        self.supervision = supervision
        supervision.prepare(self.network, self.optimizer)
        self.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
        if average is not None:
            average.attach(self)

    def _begin_epoch(self, engine: Any) -> None:
        dataset = getattr(self.data_loader, "dataset", None)
        if dataset is not None and hasattr(dataset, "set_epoch"):  # its sampler, where it has one, is told by MONAI
            dataset.set_epoch(engine.state.epoch)
        self.supervision.begin_epoch(epoch=engine.state.epoch, max_epochs=engine.state.max_epochs)

    def _iteration(self, engine: Any, batchdata: Mapping[str, Any]) -> Any:  # MONAI declares a dict; this is a list
        device = engine.state.device
        batch = {
            key: value.to(device, non_blocking=engine.non_blocking) if isinstance(value, Tensor) else value
            for key, value in batchdata.items()
        }
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, enabled=engine.amp, **engine.amp_kwargs):
            terms = self.supervision.loss(engine.network, batch)
            loss = torch.stack([term.float() for term in terms.values()]).sum()
        values = {"loss": float(loss.detach()), **{name: float(term.detach()) for name, term in terms.items()}}
        if not torch.isfinite(loss):
            raise ValueError(_not_finite(engine, values, batchdata.get("case_id", ())))
        engine.state.output = [values]  # for handlers of the events below
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        if engine.amp and device.type == "cuda" and engine.scaler is not None:
            engine.scaler.scale(loss).backward()
            engine.scaler.step(engine.optimizer)
            engine.scaler.update()
        else:
            loss.backward()
            engine.optimizer.step()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self.supervision.after_step(engine.network, engine.state.iteration)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return [values]


def _not_finite(engine: Any, values: dict[str, float], cases: Any) -> str:
    terms = ", ".join(f"{name}={value:g}" for name, value in values.items() if name != "loss")
    return (
        f"the loss is not finite in epoch {engine.state.epoch}, step {engine.state.iteration} ({terms}; "
        f"cases {', '.join(map(str, cases))}): lower --learning_rate or look at these images; "
        "the last good checkpoint is kept"
    )


def _unused(*_: Any) -> None:
    raise NotImplementedError("the supervision computes the loss")
