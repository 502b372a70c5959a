"""The states of all random generators that a training draws from, as tensors and plain values."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch

from cvm_monai.engines.processes import gathered
from cvm_monai.errors import CvmError


def random_states() -> list[dict[str, Any]]:
    """Those of each process, in the order of their ranks: Python's, NumPy's, torch's and of every GPU.

    In a distributed training every process must call it, and all are given the same list.
    """
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  (MONAI draws from it)
    version, words, gauss = random.getstate()
    own = {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    return gathered(own)


def set_random_states(states: Sequence[Mapping[str, Any]]) -> None:
    """Take back what `random_states` gave, each process its own.

    Raises:
        CvmError: another number of processes than before.
    """
    if len(states) != idist.get_world_size():
        raise CvmError(
            f"the checkpoint is of {len(states)} processes and this training has {idist.get_world_size()}: start as "
            "many as before, or train with --resume never"
        )
    own = states[idist.get_rank()]
    version, words, gauss = own["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = own["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(own["torch"])
    for index, state in enumerate(own["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, index)
