"""The manifest of a folder's tiles, `tiles.json`: slides and settings, so that tiles of other settings never mix."""

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


def read_manifest(out: Path, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read the manifest of the tiles in ``out``, empty where there are none yet.

    Raises:
        CvmError: tiles cut with other settings, or images that were not cut from slides.
    """
    path = out / FILE_NAME
    if not path.is_file():
        images = out / "images"
        if images.is_dir() and any(not file.name.startswith(".") for file in images.iterdir()):
            raise CvmError(f"{images} holds images, and no {FILE_NAME} says that they are tiles: give another --output")
        return {"version": VERSION, "settings": dict(settings), "slides": {}}
    manifest = read_json(path)
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and 0 < version < VERSION:
        raise CvmError(f"the tiles in {out} were cut by an earlier version, by other rules: give another --output")
    if version != VERSION or not isinstance(manifest.get("slides"), dict):
        raise CvmError(f"{path} is not a manifest of tiles that this version can read: give another --output")
    refuse_difference(
        manifest.get("settings"),
        settings,
        what=f"the tiles in {out} were cut with other settings",
        advice="give another --output, or the same settings",
    )
    return manifest


def add_slides(out: Path, manifest: dict[str, Any], plans: Sequence[SlidePlan]) -> None:
    """Add the slides that will be cut to the manifest.

    Raises:
        CvmError: a slide whose files have changed since its tiles were cut.
    """
    with _shared(out, manifest):
        for plan in plans:
            facts, known = _facts(plan), manifest["slides"].get(plan.source.case_id)
            changed = [name for name in facts if known is not None and facts[name] != known.get(name)]
            if changed:
                raise CvmError(
                    f"the tiles of {plan.source.case_id} in {out} were cut from other files, changed: "
                    f"{', '.join(changed)}; give another --output"
                )
            manifest["slides"][plan.source.case_id] = facts
        _write(out, manifest)


def forget_uncut(out: Path, manifest: dict[str, Any], plans: Iterable[SlidePlan]) -> None:
    """Remove slides without tiles from the manifest, so that they may be corrected or removed."""
    with _shared(out, manifest):
        for plan in plans:
            if not any(file.exists() for tile in plan.tiles for file in tile_files(plan, tile, out)):
                manifest["slides"].pop(plan.source.case_id, None)
        _write(out, manifest)


@contextmanager
def _shared(out: Path, manifest: dict[str, Any]) -> Iterator[None]:
    """Hold the manifest against the other shards of an array job, and take over the slides that they have added.

    Raises:
        CvmError: another shard began with other settings since the manifest was read.
    """
    out.mkdir(parents=True, exist_ok=True)
    with made_by_one(out / f".{FILE_NAME}.lock"):
        if (out / FILE_NAME).is_file():
            manifest["slides"] = read_manifest(out, settings=manifest["settings"])["slides"]
        yield


def check_present(out: Path, manifest: Mapping[str, Any], slides: Sequence[str]) -> None:
    """Refuse a folder in which a slide with existing tiles is missing.

    Raises:
        CvmError: naming it.
    """
    gone = sorted(set(manifest["slides"]) - set(slides))
    if gone:
        raise CvmError(f"{out} holds tiles of the slide {gone[0]}, which no longer exists: give another --output")


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


def _write(out: Path, manifest: Mapping[str, Any]) -> None:
    write_text(out / FILE_NAME, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
