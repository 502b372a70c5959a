"""Who of several processes takes which cases."""

from collections.abc import Iterator, Sized

from torch.utils.data import Sampler

from cvm_monai.errors import CvmError


def share_of(count: int, *, rank: int, world: int) -> range:
    """The part of 0, ..., count - 1 that the process `rank` of `world` takes.

    The parts follow each other without gap or overlap; the first ones are larger by 1 where the count does not divide,
    and the last ones empty where there are fewer things than processes.

    Raises:
        CvmError: a negative count, or a rank that is none of 0 to world - 1.
    """
    if count < 0 or not 0 <= rank < world:
        raise CvmError(f"there is no share {rank} of {world} of {count} things: rank must lie in 0 to world - 1")
    size, larger = divmod(count, world)
    begin = rank * size + min(rank, larger)
    return range(begin, begin + size + (rank < larger))


class ShareSampler(Sampler[int]):
    """The indices of one process' share of a data set, in order and each once: for a validation.

    A `DistributedSampler` pads, so that some cases would count twice, or refuses fewer cases than processes.

    Args:
        dataset: what is shared out.
        rank, world: this process, and how many there are; by default as Ignite's distributed module says.
    """

    def __init__(self, dataset: Sized, *, rank: int | None = None, world: int | None = None) -> None:
        import ignite.distributed as idist

        self._share = share_of(
            len(dataset),
            rank=idist.get_rank() if rank is None else rank,
            world=idist.get_world_size() if world is None else world,
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self._share)

    def __len__(self) -> int:
        return len(self._share)
