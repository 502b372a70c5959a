"""Reset the network to its first weights at intervals during a training, while its pseudo-labels are kept."""

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
    """Resets the network to its first weights at equal intervals of the training, and clears the optimiser's moments.

    Pseudo-labels, the lowest validation score and the best weights are kept. So the restarted network learns from
    the pseudo-labels of the best network before it, and they are renewed once it is better than that, as self-training
    starts each student anew (Xie et al., CVPR 2020). Not in the paper. A second start can improve any method, since the
    better network by validation is kept: a fair comparison gives it to all methods.

    Args:
        network: that trains; its state at the start is the one restored, pretrained encoder weights included.
        optimizer: of its weights.
        supervision: its own state, such as a teacher, is reset too.
        average: of the weights; it is reset too.
        count: number of restarts; 0 (the paper) to 3. Raising it leaves fewer epochs per interval: train longer.
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
        """Add the handlers; call it before attaching `Checkpoints`, which restores the state of a resumed training."""
        if self.count:
            engine.add_event_handler(Events.STARTED, self._remember)
            engine.add_event_handler(Events.EPOCH_STARTED, self)

    def _remember(self, engine: Engine) -> None:
        del engine
        self._first_state = copy.deepcopy(self.supervision.state_dict())

    def __call__(self, engine: Any) -> None:
        """Restart at the epochs of `restart_epochs`."""
        if engine.state.epoch not in restart_epochs(count=self.count, max_epochs=engine.state.max_epochs):
            return
        logger.info(
            "epoch %d: the network restarts from its first weights, the pseudo-labels are kept", engine.state.epoch
        )
        bare(self.network).load_state_dict(self._first)
        self.supervision.load_state_dict(self._first_state)
        self.optimizer.state.clear()
        self.average.restart()


def restart_epochs(*, count: int, max_epochs: int) -> list[int]:
    """List the epochs, counted from 1, that begin with a restart: `count` of them split the training equally.

    Raises:
        CvmError: more parts than epochs.
    """
    if count >= max_epochs:
        raise CvmError(
            f"--restarts {count} divides the training into {count + 1} parts, and --max_epochs is {max_epochs}"
        )
    return [1 + share * max_epochs // (count + 1) for share in range(1, count + 1)]
