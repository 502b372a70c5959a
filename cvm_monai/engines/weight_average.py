"""Weights for validation and saving: the trained ones, their moving average, or the supervision's own."""

from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from cvm_monai.errors import CvmError
from cvm_monai.losses.checks import check_number
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.moving_average import MovingAverage, bare

DELAY = 10
"""The decay after s steps is at most (1 + s) / (10 + s), so that an early average depends on recent weights only."""


class WeightAverage:
    """Averages a network's weights: a <- d a + (1 - d) w after each step of the optimiser, buffers included.

    `PointTrainer` attaches it; `InferenceWeights` puts the average into the network for validation. With small batches
    of few images the last weights fluctuate from step to step; their average hardly does, and generalises at least as
    well (Polyak and Juditsky, 1992; Izmailov et al., UAI 2018).

    Args:
        network: that trains; any wrapper for distributed training is removed first.
        decay: d; raising it averages over more steps, about 1 / (1 - d); 0 (none: the paper) or 0.9 to 0.999.

    Raises:
        CvmError: a decay outside [0, 1).
    """

    def __init__(self, *, network: nn.Module, decay: float) -> None:
        check_number("average_decay", decay, high=1)
        if decay == 1:
            raise CvmError("average_decay must be below 1, or the average never moves")
        self.network, self.decay, self.steps = network, decay, 0
        self._average = MovingAverage(network, buffers="average") if decay else None

    def attach(self, engine: Engine) -> None:
        """Add the handlers for the trainer's start and steps."""
        if self._average is not None:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Update the average after one step."""
        del engine
        assert self._average is not None
        self.steps += 1
        self._average.update(self.network, decay=min(self.decay, (1 + self.steps) / (DELAY + self.steps)))

    def _start(self, engine: Engine) -> None:
        """Start from the network's current weights.

        Only once the processes of a training are joined are these the same in all, and all must follow one average.
        """
        del engine
        if self.steps == 0:
            self.restart()

    def restart(self) -> None:
        """Reset the average to the network's current weights."""
        self.steps = 0
        if self._average is not None:
            self._average.load_state_dict(bare(self.network).state_dict())

    def weights(self) -> Mapping[str, Tensor] | None:
        """A state dict of the network; None if nothing is averaged."""
        return None if self._average is None else self._average.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """Return the average and its number of steps."""
        return {"steps": self.steps, "average": self.weights()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.steps = state["steps"]
        if self._average is not None:
            self._average.load_state_dict(state["average"])


class InferenceWeights:
    """Puts other weights into the network during validation and the handlers of a new low.

    They are the supervision's `inference_weights`, or else those of `average`; `BestModelSaver` and
    `PseudoLabelRenewal` use them too. Without either, nothing changes. The network's own weights are restored exactly
    when the validation ends, also if it fails.

    Args:
        network: that is validated; its tensors stay the same objects, which the optimiser refers to.
        supervision: may have its own weights for inference.
        average: of the weights that train.
    """

    def __init__(self, *, network: nn.Module, supervision: Supervision, average: WeightAverage | None = None) -> None:
        self.network, self.supervision, self.average = network, supervision, average
        self._own: Mapping[str, Tensor] | None = None

    def attach(self, engine: Engine) -> None:
        """Add the handlers; call it after attaching those that select and save."""
        engine.add_event_handler(Events.STARTED, self)
        engine.add_event_handler(Events.COMPLETED, self._give_back)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._give_back_and_raise)

    def __call__(self, engine: Engine) -> None:
        """Put the inference weights into the network and keep a copy of the trained ones."""
        del engine
        weights = self.supervision.inference_weights()
        if weights is None and self.average is not None:
            weights = self.average.weights()
        if weights is not None and self._own is None:
            network = bare(self.network)
            self._own = {name: value.clone() for name, value in network.state_dict().items()}
            network.load_state_dict(weights)

    def _give_back(self, engine: Engine) -> None:
        del engine
        if self._own is not None:
            bare(self.network).load_state_dict(self._own)
            self._own = None

    def _give_back_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._give_back(engine)
        raise error
