"""Shards of work for array jobs: part K of N of a list, by `--shard K/N`."""

import re
from collections.abc import Sequence
from typing import TypeVar

from cvm_monai.errors import CvmError
from cvm_monai.files import shown

Item = TypeVar("Item")


def parse_shard(shard: str) -> tuple[int, int]:
    """Parse `3/16` to (3, 16).

    Raises:
        CvmError: not K/N with 1 <= K <= N.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", str(shard))
    number, count = (int(part) for part in match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise CvmError(f"--shard must be K/N with K from 1 to N, such as 3/16, got {shown(shard)}")
    return number, count


def in_shard(items: Sequence[Item], shard: str | None) -> tuple[Item, ...]:
    """Return the items of a shard: `3/16` has the 3rd, 19th, 35th ...; None: all of them.

    Raises:
        CvmError: as `parse_shard`.
    """
    if shard is None:
        return tuple(items)
    number, count = parse_shard(shard)
    return tuple(items[number - 1 :: count])
