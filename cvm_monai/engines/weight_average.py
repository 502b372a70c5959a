"""Which weights are validated and saved: those that train, their moving average, or a supervision's own."""

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
"""The decay after s steps is at most (1 + s) / (10 + s), so that an average of few steps is one of recent weights."""


class WeightAverage:
    """Follows a network: a <- d a + (1 - d) w after each step of the optimiser, buffers included.

    `PointTrainer` attaches it; `InferenceWeights` lends its weights to the validation. Small batches of few images make
    the last weights swing from step to step; their average hardly does, and generalises at least as well (Polyak and
    Juditsky, 1992; Izmailov et al., UAI 2018).

    Args:
        network: that trains; any wrapper of a distributed training is looked through.
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
        """Listen to the trainer's steps, and begin with it."""
        if self._average is not None:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Follow one step."""
        del engine
        assert self._average is not None
        self.steps += 1
        self._average.update(self.network, decay=min(self.decay, (1 + self.steps) / (DELAY + self.steps)))

    def _start(self, engine: Engine) -> None:
        """Begin from what the network holds by now: the processes of a training have different weights before they
        are joined, and must follow one average."""
        del engine
        if self.steps == 0:
            self.restart()

    def restart(self) -> None:
        """Forget all steps: the average is what the network holds now."""
        self.steps = 0
        if self._average is not None:
            self._average.load_state_dict(bare(self.network).state_dict())

    def weights(self) -> Mapping[str, Tensor] | None:
        """A state dict of the network; None where nothing is averaged."""
        return None if self._average is None else self._average.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """The average and how many steps it has seen."""
        return {"steps": self.steps, "average": self.weights()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.steps = state["steps"]
        if self._average is not None:
            self._average.load_state_dict(state["average"])


class InferenceWeights:
    """Lends the network other weights while it is validated, and for what a new low sets off.

    They are the supervision's `inference_weights`, or else those of `average`; `BestModelSaver` and
    `PseudoLabelRenewal` see them too. Nothing happens where there are neither. The network's own weights return when
    the validation ends, bit by bit, also where it fails.

    Args:
        network: that is validated; its tensors stay the same objects, which the optimiser knows.
        supervision: may have other weights.
        average: of the weights that train.
    """

    def __init__(self, *, network: nn.Module, supervision: Supervision, average: WeightAverage | None = None) -> None:
        self.network, self.supervision, self.average = network, supervision, average
        self._own: Mapping[str, Tensor] | None = None

    def attach(self, engine: Engine) -> None:
        """Must stand after the handlers that select and save."""
        engine.add_event_handler(Events.STARTED, self)
        engine.add_event_handler(Events.COMPLETED, self._give_back)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._give_back_and_raise)

    def __call__(self, engine: Engine) -> None:
        """Put the other weights into the network; the ones that train are kept aside."""
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
