"""One step's cases collated as several small batches, for the accumulation of gradients."""

from collections.abc import Sequence
from typing import Any

from monai.data.utils import list_data_collate

from cvm_monai.errors import CvmError


class MicroBatchCollate:
    """Collates a list of cases: into one batch where they are `size` at most, else into a list of batches of `size`.

    The last batch may be smaller. Images must agree in shape within a batch only, so that whole images of any sizes can
    be accumulated one by one.

    Args:
        size: cases of a batch; raising it takes more memory.

    Raises:
        CvmError: a size below 1.
    """

    def __init__(self, *, size: int) -> None:
        if type(size) is not int or size < 1:
            raise CvmError(f"size must be a whole number of at least 1, got {size!r}")
        self.size = size

    def __call__(self, cases: Sequence[Any]) -> Any:
        """A batch, or a list of batches."""
        batches = [list_data_collate(cases[begin : begin + self.size]) for begin in range(0, len(cases), self.size)]
        return batches[0] if len(batches) == 1 else batches
