"""Predict many slides one after the other; failures are recorded, and the others continue."""

import logging
import shutil
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cvm_monai.errors import CvmError
from cvm_monai.files import check_lockable, lock_folder, remove_all_leftovers
from cvm_monai.inference.progress import TileProgress
from cvm_monai.inference.whole_slide.find import Slide, find_slides, look_at, shard_of_slides
from cvm_monai.inference.whole_slide.model import SlideModel
from cvm_monai.inference.whole_slide.one_slide import (
    PARTIAL,
    SlideOptions,
    SlideSettings,
    conflict,
    predict_slide,
    sentence,
    settings_of,
)
from cvm_monai.runs import RunFolder
from cvm_monai.slides import open_image
from cvm_monai.slides.files import ImageFile

logger = logging.getLogger(__name__)


@dataclass
class SlidesSummary:
    """Outcome of a run: names of slides in each state.

    Attributes:
        finished: predicted by this run.
        empty: of these, those without tissue.
        skipped: finished earlier.
        busy: being predicted by another process.
        failed: with the error message.
    """

    finished: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Exit code: 0 where every slide is finished, else 1."""
        return int(bool(self.failed or self.busy))

    def __str__(self) -> str:
        parts = [f"{len(self.finished)} predicted"]
        for names, text in (
            (self.empty, "of these without tissue"),
            (self.skipped, "finished before"),
            (self.busy, "in the hands of another process"),
            (self.failed, "failed"),
        ):
            if names:
                parts.append(f"{len(names)} {text}")
        return f"slides: {', '.join(parts)}"


def predict_slides(
    model: SlideModel,
    slides: Iterable[str | Path],
    out: str | Path,
    *,
    options: SlideOptions | None = None,
    shard: str | None = None,
    say: Callable[[str], None] = logger.info,
    bar: bool | None = None,
) -> SlidesSummary:
    """Predict every slide into `out/NAME/`; finished ones are skipped, interrupted ones resumed.

    Several processes may work on one folder: each slide is locked by one of them. A failure is recorded, and the next
    slide is begun.

    Args:
        model: the network and its settings.
        slides: files, and folders of files.
        out: folder of the results, with one folder for each slide.
        options: of the prediction.
        shard: see `shard_of_slides`.
        say: called with lines of text.
        bar: show a progress bar; None: where stderr is a terminal.

    Raises:
        CvmError: before any work: no slide, no such shard, a slide without um/px, none that can be opened,
            results of another model or of other settings in the way, or a folder `out` that cannot be written or
            locked.

    Example:
        >>> import cvm_monai as cvm
        >>> from cvm_monai.inference.whole_slide import SlideOptions
        >>> model = cvm.load_slide_model("runs/mine", mpp=0.5)
        >>> options = SlideOptions(tissue="none", mpp=0.5)
        >>> slides = ["data/phantom/images/case_000.png"]
        >>> report = cvm.predict_slides(model, slides, "results", options=options, bar=False)
        >>> report.exit_code
        0
    """
    options, out = options or SlideOptions(), Path(out)
    report, stride = SlidesSummary(), model.stride()
    found = find_slides(slides)
    mine = shard_of_slides(found, shard)
    if not mine:
        say(f"there are {len(found)} slides, and none of them is in the shard {shard}")
        return report
    jobs = _jobs(model, mine, out, options, report, say)
    if jobs:
        check_lockable(out)
    waiting = {slide.name: slide.grid.tiles for slide, _ in jobs}
    progress = TileProgress(waiting, enabled=bar, say=say) if jobs else None
    try:
        for slide, settings in jobs:
            assert progress is not None
            _predict_locked(model, slide, settings, out, stride, options, report, progress)
    finally:
        if progress is not None:
            progress.close()
    say(f"{report}; results are in {out}")
    return report


class SlidePredictor:
    """Run `predict_slides` as an engine of a bundle's configuration.

    Args:
        model, slides, out, options, shard: see `predict_slides`.
    """

    def __init__(
        self,
        *,
        model: SlideModel,
        slides: str | Sequence[str],
        out: str,
        options: SlideOptions | None = None,
        shard: str | None = None,
    ) -> None:
        self.model, self.out, self.options, self.shard = model, Path(out), options, shard
        self.slides = [slides] if isinstance(slides, str) else list(slides)

    def run(self) -> SlidesSummary:
        """Predict all slides."""
        return predict_slides(self.model, self.slides, self.out, options=self.options, shard=self.shard)


def _jobs(
    model: SlideModel,
    slides: Sequence[ImageFile],
    out: Path,
    options: SlideOptions,
    report: SlidesSummary,
    say: Callable[[str], None],
) -> list[tuple[Slide, SlideSettings]]:
    """Open and check all slides first; returns those to predict. Slides that cannot be opened count as failed."""
    jobs = []
    for file in slides:
        try:
            slide = _look(file, model, options)
        except _NotOpened as error:
            report.failed[file.name] = str(error)
            say(f"failed: {error}")
            continue
        settings, folder = settings_of(slide, model, options), out / slide.name
        if (reason := conflict(folder, settings)) and not options.overwrite:
            raise CvmError(
                f"{folder} was made with other settings: {reason}; give another --output, or --overwrite to begin again"
            )
        for warning in slide.warnings:
            say(f"warning: {warning}")
        if RunFolder(folder).finished and not reason:
            report.skipped.append(slide.name)
        else:
            jobs.append((slide, settings))
    if len(report.failed) == len(slides):
        raise CvmError("; ".join(report.failed.values()))
    if model.mpp is None and jobs:
        say(
            f"the model was trained without um/px, at {model.scale:g} times the size of its images: slides are read at "
            f"{model.scale:g} times the size of their level 0; give --model_mpp to state the um/px of the training"
        )
    return jobs


class _NotOpened(CvmError):
    """A file that is not a slide, or is damaged."""


def _look(file: ImageFile, model: SlideModel, options: SlideOptions) -> Slide:
    """Call `look_at`; a slide that cannot be opened raises another error than one that lacks an option."""
    try:
        open_image(file.path).close()
    except (ValueError, OSError) as error:
        raise _NotOpened(str(error)) from None
    return look_at(
        file.path,
        name=file.name,
        model_mpp=model.mpp,
        model_scale=model.scale,
        mpp=options.mpp,
        force_mpp=options.force_mpp,
        window=options.window,
        overlap=options.overlap,
        mpp_flag=options.mpp_flag,
        origin=options.origin,
    )


def _predict_locked(
    model: SlideModel,
    slide: Slide,
    settings: SlideSettings,
    out: Path,
    stride: int,
    options: SlideOptions,
    report: SlidesSummary,
    progress: TileProgress,
) -> None:
    """Predict one slide unless another process does or just did; errors go into the report."""
    name, folder = slide.name, out / slide.name
    try:
        with lock_folder(folder) as holder:
            if holder is not None:
                report.busy.append(name)
                progress.drop(name)
                progress.line(f"{name}: skipped, {holder} is working on it")
                return
            remove_all_leftovers(folder)
            reason = conflict(folder, settings)
            if RunFolder(folder).finished and not reason:
                report.skipped.append(name)
                progress.drop(name)
                return
            if reason:
                _clear(folder)
            outcome = predict_slide(
                model, slide, folder, stride=stride, options=options, settings=settings, progress=progress
            )
    except Exception as error:  # a failed slide must not stop the others; its run.json and the report have the reason
        report.failed[name] = sentence(error, folder)
        progress.drop(name)
        progress.line(f"failed: {report.failed[name]}")
        if not isinstance(error, ValueError | OSError):
            logger.error("%s", traceback.format_exc())
        return
    report.finished.append(name)
    if outcome == "no tissue":
        report.empty.append(name)
        progress.line(f"{name}: no tissue was found, the result is empty; --tissue none predicts all of it")


def _clear(folder: Path) -> None:
    """Remove the partial map and the record that other settings left of the same slide."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    RunFolder(folder).path.unlink(missing_ok=True)
