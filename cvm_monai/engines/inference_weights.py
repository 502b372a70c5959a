"""Validation of other weights than those that train: a supervision's own, or their moving average."""

from collections.abc import Mapping

from ignite.engine import Engine, Events
from torch import Tensor, nn

from cvm_monai.engines.weight_average import WeightAverage
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.moving_average import bare


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
        """Lend."""
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
