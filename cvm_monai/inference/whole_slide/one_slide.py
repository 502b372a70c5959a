"""Predict one slide, write its results and its record `run.json`, and resume an interrupted attempt."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cvm_monai.errors import CvmError
from cvm_monai.files import FULL, first_difference, sha256
from cvm_monai.inference.progress import TileProgress
from cvm_monai.inference.whole_slide.find import Slide, fingerprint, mask_file, open_slide
from cvm_monai.inference.whole_slide.grid import TissueOnGrid
from cvm_monai.inference.whole_slide.map_file import MapFile, read_progress
from cvm_monai.inference.whole_slide.model import SlideModel
from cvm_monai.inference.whole_slide.predict_map import predict_map, slide_change, tissue_tiles
from cvm_monai.inference.whole_slide.results import ResultOptions, SlideMap, write_results
from cvm_monai.knobs import SLIDE_DEFAULTS, SLIDES
from cvm_monai.runs import RunFolder
from cvm_monai.slides import Origin, SlideImage, TissueMask, read_tissue_mask, tissue_mask

PARTIAL = ".partial"
"""Folder of the unfinished map, in a slide's folder."""

Outcome = Literal["finished", "no tissue"]


@dataclass(frozen=True)
class SlideOptions:
    """Options of the prediction of slides.

    Attributes:
        window, overlap: size and overlap of the tiles, see `WindowInferer`.
        batch_size, num_workers: see `predict_map`.
        tissue: `otsu` finds tissue by its colour, `none` takes all of the slide; else the path of a mask (GeoJSON or a
            label image), or of a folder with one for each slide.
        mpp: um/px of the slides' level 0, where it is missing or wrong in their files.
        force_mpp: accept a um/px that no microscope has, or one more than twice the model's.
        origin: what the coordinates of written regions and of read masks of tissue count from.
        results: options of the files made from the map.
        overwrite: begin again where there are results of other settings or another model.
        mpp_flag: the option that sets `mpp`, for error messages.

    Raises:
        CvmError: a number out of range.
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
    """All settings that determine a slide's results.

    Attributes:
        prediction: settings that determine the probability map.
        results: settings that determine the files made from it.
    """

    prediction: Mapping[str, Any]
    results: Mapping[str, Any]


def settings_of(slide: Slide, model: SlideModel, options: SlideOptions) -> SlideSettings:
    """Return all settings that determine the slide's results.

    Raises:
        CvmError: a missing mask of tissue.
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
    return SlideSettings(prediction, results)


def finished_settings(folder: Path) -> SlideSettings | None:
    """Return the settings of the finished results in a slide's folder; None where there are none."""
    record = RunFolder(folder)
    settings = record.known.get("settings")
    if not record.finished:
        return None
    parts = (settings.get(part) if isinstance(settings, dict) else None for part in ("prediction", "results"))
    return SlideSettings(*(part if isinstance(part, dict) else {} for part in parts))


def conflict(folder: Path, settings: SlideSettings) -> str:
    """Describe how the settings of earlier results in the folder differ; empty where they do not."""
    if (found := finished_settings(folder)) is not None:
        return first_difference({**found.prediction, **found.results}, {**settings.prediction, **settings.results})
    partial = read_progress(folder / PARTIAL)
    return "" if partial is None else first_difference(partial["settings"], settings.prediction)


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
    """Predict the slide into its folder, which must be locked; `run.json` records success or failure.

    Args:
        model: the network and its settings.
        slide: as `look_at` returns it.
        folder: of the results.
        stride: of the model.
        options: of the prediction.
        settings: as `settings_of` returns them.
        progress: notified of each tile.

    Raises:
        CvmError: a slide that cannot be read to its end, or a network whose output is not finite.
    """
    record, partial = RunFolder(folder), read_progress(folder / PARTIAL)
    facts = {"path": str(slide.path.resolve()), "mpp_source": slide.mpp_source, "warnings": list(slide.warnings)}
    record.begin(
        {"slide": facts, "settings": {"prediction": dict(settings.prediction), "results": dict(settings.results)}},
        goes_on=True,
        rows_already_done=0 if partial is None else len(partial["bands"]),
    )
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
    """Compute, or complete, the slide's map."""
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
    """Find the slide's mask of tissue, by its colour or from the user's file; None: all is tissue.

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
    """Describe the error of the slide with this folder, for its record and for the user."""
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"{error.filename or folder} cannot be written ({error.strerror}): make room and run again, the slide goes "
            "on where it stopped"
        )
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
