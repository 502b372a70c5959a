"""One slide from its file to its results and its record, `run.json`; resumes an attempt that was interrupted."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cvm_monai.errors import CvmError
from cvm_monai.files import FULL, read_record, sha256, write_json
from cvm_monai.inference.progress import TileProgress
from cvm_monai.inference.whole_slide.find import Slide, fingerprint, mask_file, open_slide
from cvm_monai.inference.whole_slide.grid import TissueOnGrid
from cvm_monai.inference.whole_slide.map_file import MapFile, difference, plain_settings, read_progress
from cvm_monai.inference.whole_slide.model import SlideModel
from cvm_monai.inference.whole_slide.predict_map import predict_map, slide_change, tissue_tiles
from cvm_monai.inference.whole_slide.results import ResultOptions, SlideMap, write_results
from cvm_monai.knobs import SLIDE_DEFAULTS, SLIDES
from cvm_monai.provenance import begun, now, software
from cvm_monai.slides import Origin, SlideImage, TissueMask, read_tissue_mask, tissue_mask

PARTIAL, FILE = ".partial", "run.json"
"""In a slide's folder: what is not finished, and the record."""

Outcome = Literal["finished", "no tissue"]
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class SlideOptions:
    """How slides are predicted.

    Attributes:
        window, overlap: of the tiles, see `WindowInferer`.
        batch_size, num_workers: see `predict_map`.
        tissue: `otsu` finds tissue by its colour, `none` takes all of the slide; else the path of a mask (GeoJSON or a
            label image), or of a folder with one for each slide.
        mpp: um/px of the slides' level 0, where their files do not say it or say it wrongly.
        force_mpp: take a um/px that no microscope has, or one more than twice the model's.
        origin: what coordinates count from, of the regions that are written and of masks of tissue that are read.
        results: what is made of the map.
        overwrite: begin again where other settings or another model left results.
        mpp_flag: the option by which the user says `mpp`, for sentences.

    Raises:
        CvmError: a number out of its range.
    """

    window: int = SLIDE_DEFAULTS["window"]
    overlap: float = SLIDE_DEFAULTS["overlap"]
    batch_size: int = SLIDE_DEFAULTS["batch_size"]
    num_workers: int = SLIDE_DEFAULTS["num_workers"]
    tissue: str = SLIDE_DEFAULTS["tissue"]
    mpp: float | None = None
    force_mpp: bool = False
    origin: Origin = SLIDE_DEFAULTS["origin"]
    results: ResultOptions = field(default_factory=ResultOptions)
    overwrite: bool = False
    mpp_flag: str = "--mpp"

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_workers", "origin"):
            SLIDES[name].check(getattr(self, name))
        if self.mpp is not None and not (isinstance(self.mpp, int | float) and self.mpp > 0):
            raise CvmError(f"{self.mpp_flag} must be a number of um/px greater than 0, got {self.mpp!r}")


@dataclass(frozen=True)
class SlideSettings:
    """All that decides a slide's results.

    Attributes:
        prediction: what decides the probability map.
        results: what decides the files made from it.
    """

    prediction: Mapping[str, Any]
    results: Mapping[str, Any]


def settings_of(slide: Slide, model: SlideModel, options: SlideOptions) -> SlideSettings:
    """All that decides the slide's results.

    Raises:
        CvmError: a mask of tissue that is not there.
    """
    tissue: Any = options.tissue
    if tissue not in ("otsu", "none"):
        tissue = sha256(mask_file(Path(tissue), slide.path, slide.name))
    prediction: Mapping[str, Any] = {
        **model.settings(),
        "slide_bytes": slide.path.stat().st_size,
        "slide_fingerprint": fingerprint(slide.path),
        "slide_shape": slide.shape,
        "mpp": slide.mpp,
        "scale": slide.grid.scale,
        "window": options.window,
        "overlap": options.overlap,
        "tissue": tissue,
    }
    moved = {} if slide.corner == (0, 0) else {"origin": slide.corner}
    results = asdict(options.results) | moved
    if options.tissue not in ("otsu", "none"):
        prediction = {**prediction, **moved}
    return SlideSettings(plain_settings(prediction), plain_settings(results))


class SlideRecord:
    """The record in a slide's folder.

    Args:
        folder: of the slide's results.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.known: dict[str, Any] = read_record(self.path) or {}  # nothing where it cannot be read

    @property
    def finished(self) -> bool:
        """Whether all results are there."""
        return self.known.get("status") == "FINISHED"

    def conflict(self, settings: SlideSettings) -> str:
        """How a finished slide's settings differ from the asked ones, in words; empty where they do not."""
        if not self.finished:
            return ""
        before: Mapping[str, Any] = self.known.get("settings", {})
        return difference(
            {**before.get("prediction", {}), **before.get("results", {})},
            plain_settings({**settings.prediction, **settings.results}),
        )

    def begin(self, slide: Mapping[str, Any], settings: SlideSettings, *, rows_done: int) -> None:
        """A new attempt; one that never ended was killed."""
        attempts = list(self.known.get("attempts", []))
        if attempts and attempts[-1].get("status") == "RUNNING":
            attempts[-1] = {**attempts[-1], "status": "KILLED"}
        attempts.append(
            {
                "status": "RUNNING",
                **begun(),
                "process": os.getpid(),
                "rows_already_done": rows_done,
            }
        )
        asked = {"prediction": dict(settings.prediction), "results": dict(settings.results)}
        self._write({"status": "RUNNING", "slide": dict(slide), "settings": asked, **software(), "attempts": attempts})

    def end(self, status: Status, *, error: str | None = None, **found: Any) -> None:
        """Close the attempt, with its error or what was found."""
        attempts = list(self.known["attempts"])
        attempts[-1] = {**attempts[-1], "status": status, "ended": now()}
        if error is not None:
            attempts[-1]["error"] = error
        self._write({**self.known, "status": status, "attempts": attempts, **found})

    def _write(self, content: dict[str, Any]) -> None:
        write_json(self.path, content)
        self.known = content


def conflict(folder: Path, settings: SlideSettings) -> str:
    """How what is in the folder was made with other settings, in words; empty where it was not."""
    record = SlideRecord(folder)
    if record.finished:
        return record.conflict(settings)
    partial = read_progress(folder / PARTIAL)
    return "" if partial is None else difference(partial["settings"], settings.prediction)


def predict_slide(
    model: SlideModel,
    slide: Slide,
    folder: Path,
    *,
    stride: int,
    options: SlideOptions,
    settings: SlideSettings,
    progress: TileProgress,
) -> Outcome:
    """Predict the slide into its folder, which must be locked; `run.json` says how it went, also where it fails.

    Args:
        model: with the network.
        slide: as it was looked at.
        folder: of its results.
        stride: of the model.
        options: how.
        settings: of `settings_of`.
        progress: told of each tile.

    Raises:
        CvmError: a slide that cannot be read to its end, or a network whose output is not finite.
    """
    record = SlideRecord(folder)
    facts = {"path": str(slide.path.resolve()), "mpp_source": slide.mpp_source, "warnings": list(slide.warnings)}
    partial = read_progress(folder / PARTIAL)
    record.begin(facts, settings, rows_done=0 if partial is None else len(partial["bands"]))
    try:
        with open_slide(slide) as image:
            found = _map(model, slide, image, folder, stride=stride, options=options, settings=settings, told=progress)
            results = write_results(found, folder, options=options.results)
    except BaseException as error:
        killed = isinstance(error, KeyboardInterrupt | SystemExit)
        record.end("KILLED" if killed else "FAILED", error=sentence(error, folder))
        raise
    empty = found.mask is not None and not found.mask.mask.any()
    record.end("FINISHED", **results, tissue=_tissue_facts(found.mask))
    found.store.remove()
    return "no tissue" if empty else "finished"


def _map(
    model: SlideModel,
    slide: Slide,
    image: SlideImage,
    folder: Path,
    *,
    stride: int,
    options: SlideOptions,
    settings: SlideSettings,
    told: TileProgress,
) -> SlideMap:
    """The slide's map, finished."""
    mask = find_tissue(image, slide.path, options.tissue, options.origin, slide.name)
    tissue = TissueOnGrid(mask, slide.grid)
    height, width = slide.grid.output_shape(stride)
    store = MapFile(folder / PARTIAL, (height, len(model.names) - 1, width), settings.prediction)
    needed = tissue_tiles(tissue, stride=stride)
    told.start(slide.name, int(needed.sum()), int(needed[: len(store.bands)].sum()))
    if store.bands:
        told.line(f"{slide.path.name}: goes on after {len(store.bands)} of {len(needed)} rows of tiles")
    change, unchanged = slide_change(model, image, tissue, stride=stride)
    if unchanged:
        told.line(
            f"{slide.path.name}: shows too little stained tissue to be normalised: its colours are left as they are"
        )
    predict_map(
        model,
        image,
        tissue,
        store,
        stride=stride,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        change=change,
        on_tiles=told.tiles,
    )
    return SlideMap(image, mask, tissue, store, stride, tuple(model.names), slide.corner)


def find_tissue(
    image: SlideImage, path: Path, how: str, origin: Origin = "level0", name: str = ""
) -> TissueMask | None:
    """The slide's mask of tissue, drawn for its file's name or its own; None: all of it.

    Raises:
        CvmError: a user's mask that is missing or cannot be read, or a slide that cannot.
    """
    if how == "none":
        return None
    if how == "otsu":
        return tissue_mask(image)
    return read_tissue_mask(mask_file(Path(how), path, name), image, origin=origin)


def _tissue_facts(mask: TissueMask | None) -> dict[str, Any]:
    if mask is None:
        return {"decided": "none", "fraction": 1.0}
    return {"decided": mask.decided, "fraction": mask.fraction, "threshold": mask.threshold}


def sentence(error: BaseException, folder: Path) -> str:
    """What went wrong with the slide whose results are in the folder, for its record and for the user."""
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"{error.filename or folder} cannot be written ({error.strerror}): make room and run again, the slide goes "
            "on where it stopped"
        )
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
