"""A comparison in shards, one array job each: one plan for all, a lock for each, and which of them are missing."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.state import decisive
from cvm_monai.files import LOCK, lock_folder, read_record, refuse_difference, write_json
from cvm_monai.shards import parse_shard

PLAN = "shards.json"
FOLDER = "shards"


def check_plan(output: Path, shard: str, asked: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the plan of all shards, or compare it with that of the first one; the caller holds the output's lock.

    Args:
        asked: the configuration of each run, by its name.

    Raises:
        CvmError: another number of shards, other runs, or other settings.
    """
    _, count = parse_shard(shard)
    runs = {name: dict(settings) for name, settings in asked.items()}
    plan = read_record(output / PLAN)
    if plan is None:
        write_json(output / PLAN, {"count": count, "runs": runs})
        return
    if plan.get("count") != count:
        raise CvmError(
            f"{output} was divided into {plan.get('count')} shards, not {count}: give all of them one N, or another "
            "--output"
        )
    known = plan.get("runs") or {}
    if other := sorted(set(runs) ^ set(known)):
        raise CvmError(
            f"the shards in {output} have other runs ({other[0]}): give all of them the same methods, folds and seeds"
        )
    for name, settings in runs.items():
        refuse_difference(
            decisive(known[name]),
            decisive(settings),
            what=f"the shards in {output} have other settings",
            advice="give all of them the same, or another --output",
        )


@contextmanager
def lock_shard(output: Path, shard: str) -> Iterator[Path]:
    """Lock the folder of a shard against a second process of the same shard, and yield it.

    Raises:
        CvmError: another process works on this shard.
    """
    number, count = parse_shard(shard)
    folder = output / FOLDER / f"{number}-of-{count}"
    with lock_folder(folder) as holder:
        if holder is not None:
            raise CvmError(f"shard {shard} is worked on by {holder}: wait for it, or end it")
        yield folder


def check_idle(output: Path) -> None:
    """Refuse to report while a shard is worked on.

    Raises:
        CvmError: naming it.
    """
    for file in sorted((output / FOLDER).glob(f"*/{LOCK}")):
        with lock_folder(file.parent) as holder:
            if holder is not None:
                name = file.parent.name.replace("-of-", "/")
                raise CvmError(f"shard {name} in {output} is worked on by {holder}: wait for it, or end it")


def check_complete(output: Path, runs: tuple[Run, ...], todo: list[Run]) -> None:
    """Refuse a report of runs that are not all finished.

    Raises:
        CvmError: saying how many are missing, and of which shards.
    """
    if not todo:
        return
    count = (read_record(output / PLAN) or {}).get("count", 1)
    missing = sorted({runs.index(run) % count + 1 for run in todo})
    names = ", ".join(f"{number}/{count}" for number in missing[:8]) + ", ..." * (len(missing) > 8)
    raise CvmError(
        f"{len(todo)} of {len(runs)} runs in {output} are not finished, of the shards {names}: run these again before "
        "--report"
    )
