"""Record the slides and settings from which a folder's tiles were cut, so that tiles of other settings never mix."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvm_monai.data.cutting import tile_files
from cvm_monai.data.slide_plan import SlidePlan
from cvm_monai.errors import CvmError
from cvm_monai.files import made_by_one, read_json, refuse_difference, sha256, write_text

FILE_NAME = "tiles.json"
VERSION = 2
"""Version of the rules by which tiles are chosen and cut: a folder of another version is not continued."""


def check_record(out: Path, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read the record of the tiles in ``out``, empty where there are none yet.

    Raises:
        CvmError: tiles cut with other settings, or images that were not cut from slides.
    """
    path = out / FILE_NAME
    if not path.is_file():
        images = out / "images"
        if images.is_dir() and any(not file.name.startswith(".") for file in images.iterdir()):
            raise CvmError(f"{images} holds images, and no {FILE_NAME} says that they are tiles: give another --output")
        return {"version": VERSION, "settings": dict(settings), "slides": {}}
    record = read_json(path)
    version = record.get("version") if isinstance(record, dict) else None
    if isinstance(version, int) and 0 < version < VERSION:
        raise CvmError(f"the tiles in {out} were cut by an earlier version, by other rules: give another --output")
    if version != VERSION or not isinstance(record.get("slides"), dict):
        raise CvmError(f"{path} is not a record of tiles that this version knows: give another --output")
    refuse_difference(
        record.get("settings"),
        settings,
        what=f"the tiles in {out} were cut with other settings",
        advice="give another --output, or the same settings",
    )
    return record


def write_record(out: Path, record: dict[str, Any], plans: Sequence[SlidePlan]) -> None:
    """Add the slides that will be cut to the record.

    Raises:
        CvmError: a slide whose files have changed since its tiles were cut.
    """
    with _shared(out, record):
        for plan in plans:
            facts, known = _facts(plan), record["slides"].get(plan.source.case_id)
            changed = [name for name in facts if known is not None and facts[name] != known.get(name)]
            if changed:
                raise CvmError(
                    f"the tiles of {plan.source.case_id} in {out} were cut from other files, changed: "
                    f"{', '.join(changed)}; give another --output"
                )
            record["slides"][plan.source.case_id] = facts
        _write(out, record)


def forget_uncut(out: Path, record: dict[str, Any], plans: Iterable[SlidePlan]) -> None:
    """Remove slides without tiles from the record, so that they may be corrected or removed."""
    with _shared(out, record):
        for plan in plans:
            if not any(file.exists() for tile in plan.tiles for file in tile_files(plan, tile, out)):
                record["slides"].pop(plan.source.case_id, None)
        _write(out, record)


@contextmanager
def _shared(out: Path, record: dict[str, Any]) -> Iterator[None]:
    """Hold the record against the other shards of an array job, and take over the slides that they have added.

    Raises:
        CvmError: another shard began with other settings since the record was read.
    """
    out.mkdir(parents=True, exist_ok=True)
    with made_by_one(out / f".{FILE_NAME}.lock"):
        if (out / FILE_NAME).is_file():
            record["slides"] = check_record(out, settings=record["settings"])["slides"]
        yield


def check_present(out: Path, record: Mapping[str, Any], slides: Sequence[str]) -> None:
    """Refuse a folder in which a slide with existing tiles is missing.

    Raises:
        CvmError: naming it.
    """
    gone = sorted(set(record["slides"]) - set(slides))
    if gone:
        raise CvmError(f"{out} holds tiles of the slide {gone[0]}, which is not there any more: give another --output")


def _facts(plan: SlidePlan) -> dict[str, Any]:
    """Return the facts on which a slide's tiles depend; the slide file by its size, not its content."""
    source = plan.source
    said = repr((plan.annotations.points, plan.annotations.regions)).encode()
    files = {"mask": source.mask, "novel": source.novel, "tissue": source.tissue}
    return {
        "file": source.image.name,
        "bytes": source.image.stat().st_size,
        "mpp": plan.mpp,
        "annotations": hashlib.sha256(said).hexdigest(),
        **{name: sha256(file) if file else None for name, file in files.items()},
    }


def _write(out: Path, record: Mapping[str, Any]) -> None:
    write_text(out / FILE_NAME, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
