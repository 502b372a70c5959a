"""How much each part of a step counts: micro-batches one after the other, and batches in several processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ignite.distributed as idist
import torch
from torch import Tensor

from cvm_monai.engines.processes import summed
from cvm_monai.supervision.base import Batch, Supervision

IMAGES = ""
"""The entry for terms that `Supervision.counts` does not name: they are means over images."""


@dataclass(frozen=True)
class StepShare:
    """The share of one part of a step in the whole, by term.

    A term that is a mean over n pixels of the part, times n / N, with N the pixels of all parts, adds up to the mean
    over the whole.
    """

    shares: Mapping[str, float]

    def of(self, term: str) -> float:
        """The share of a term."""
        return self.shares.get(term, self.shares[IMAGES])


def step_shares(supervision: Supervision, parts: Sequence[Batch]) -> list[StepShare]:
    """The share of each part of a step, among the parts of all processes.

    A whole step in one part and one process has the share 1 exactly. Every process must have as many parts.
    """
    if len(parts) == 1 and idist.get_world_size() == 1:
        return [StepShare({IMAGES: 1.0})]
    counts: list[dict[str, Tensor | int]] = [{IMAGES: len(part["image"]), **supervision.counts(part)} for part in parts]
    table = torch.stack([_row(count) for count in counts])
    shares = (table / summed(table.sum(dim=0)).clamp(min=1)).tolist()
    return [StepShare(dict(zip(count, row, strict=True))) for count, row in zip(counts, shares, strict=True)]


def _row(count: Mapping[str, Tensor | int]) -> Tensor:
    return torch.stack([torch.as_tensor(value).double().cpu() for value in count.values()])
