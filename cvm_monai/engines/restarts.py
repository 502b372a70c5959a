"""A network that begins anew in the middle of a training, while the pseudo-labels that it made stay."""

import copy
import logging
from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer

from cvm_monai.engines.weight_average import WeightAverage
from cvm_monai.errors import CvmError
from cvm_monai.losses.checks import check_whole
from cvm_monai.supervision.base import Supervision
from cvm_monai.supervision.moving_average import bare

logger = logging.getLogger(__name__)


class Restarts:
    """Gives the network its first weights back at equal shares of the training, and forgets the optimiser's moments.

    Pseudo-labels, the lowest validation score and the best weights stay. So the network learns from the start with
    pseudo-labels of the best one before it, and new ones are made once it is better than that, as self-training begins
    each student anew (Xie et al., CVPR 2020). Not of the paper. A second start can help any method, since the
    better one by validation is kept: a comparison must give it to all.

    Args:
        network: that trains; what it holds now is what it gets back, weights of a trained encoder too.
        optimizer: of its weights.
        supervision: a state of its own, such as a teacher, begins anew too.
        average: of the weights; it begins anew too.
        count: how often; 0 (the paper) to 3. Raising it makes each share of the epochs shorter: give more epochs.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        optimizer: Optimizer,
        supervision: Supervision,
        average: WeightAverage,
        count: int = 0,
    ) -> None:
        check_whole("restarts", count, low=0)
        self.network, self.optimizer, self.supervision = network, optimizer, supervision
        self.average, self.count = average, count
        self._first = copy.deepcopy(bare(network).state_dict()) if count else {}
        self._first_state: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Must stand before `Checkpoints`, which puts another state in place where a training is resumed."""
        if self.count:
            engine.add_event_handler(Events.STARTED, self._remember)
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def _remember(self, engine: Engine) -> None:
        del engine
        self._first_state = copy.deepcopy(self.supervision.state_dict())

    def __call__(self, engine: Any) -> None:
        """Begin anew where a share ends."""
        if engine.state.epoch not in restart_epochs(count=self.count, max_epochs=engine.state.max_epochs):
            return
        logger.info("epoch %d: the network begins anew, its pseudo-labels stay", engine.state.epoch)
        bare(self.network).load_state_dict(self._first)
        self.supervision.load_state_dict(self._first_state)
        self.optimizer.state.clear()
        self.average.restart()


def restart_epochs(*, count: int, max_epochs: int) -> list[int]:
    """The epochs, counted from 1, that begin with a new network: `count` of them cut the training in equal shares.

    Raises:
        CvmError: more shares than epochs.
    """
    if count >= max_epochs:
        raise CvmError(f"--restarts {count} cuts the training in {count + 1} parts, and --max_epochs is {max_epochs}")
    return [1 + share * max_epochs // (count + 1) for share in range(1, count + 1)]
