"""What the server holds of a project: the journals of its images, the network in use, answers, the next image."""

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from cvm_monai.annotate.dataset import Annotated
from cvm_monai.annotate.events import Events
from cvm_monai.annotate.journal import Journal, Saved
from cvm_monai.annotate.messages import (
    AddEdit,
    AnnotationsMessage,
    Edit,
    ImageMessage,
    ImageState,
    MoveEdit,
    OutlineMessage,
    PointMessage,
    RegionMessage,
    RemoveEdit,
)
from cvm_monai.annotate.project import Project, ProjectImage
from cvm_monai.annotate.segmentation import Answers
from cvm_monai.annotations import Point, Region
from cvm_monai.annotations.document import Document
from cvm_monai.annotations.editing import add_point, add_regions, move_point, relabel, remove
from cvm_monai.errors import CvmError
from cvm_monai.interactive.current import ModelLoader

RANKED = 16
"""Number of new images that one request may rank by their uncertainty."""

WATCHED_EVERY = 1.0
"""Seconds between two looks at the annotation files that pages show."""


class Workspace:
    """A project as the server holds it. Threads may share it.

    Args:
        project: the folder.
        device: to compute on.
        model: output folder of a training to begin with; None: the last one that was used here.

    Raises:
        CvmError: `model` has no trained network.
    """

    def __init__(self, project: Project, *, device: str = "cpu", model: str | Path | None = None) -> None:
        self.project, self.events = project, Events()
        self.models = ModelLoader(project.work, device=torch.device(device), own=False)
        if model is not None:
            self.models.use(Path(model).expanduser())
        self.answers = Answers(project, self.models)
        self._journals: dict[str, Journal] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def journal(self, image: ProjectImage) -> Journal:
        """Return the journal of an image.

        Raises:
            CvmError: its annotations cannot be edited.
        """
        if image.problem is not None:
            raise CvmError(image.problem)
        with self._lock:
            if image.id not in self._journals:
                side = self.project.hidden / "edits" / f"{image.id}.json"
                self._journals[image.id] = Journal(image.points, side, self.project.classes)
            return self._journals[image.id]

    def edit(self, image: ProjectImage, revision: int, edits: Sequence[Edit]) -> Saved:
        """Save edits, all or none; see `Journal.edit`."""
        return self._changed(image, self.journal(image).edit(revision, lambda found: self._edited(image, found, edits)))

    def undo(self, image: ProjectImage, revision: int) -> Saved:
        """Undo the last edit; see `Journal.undo`."""
        return self._changed(image, self.journal(image).undo(revision))

    def redo(self, image: ProjectImage, revision: int) -> Saved:
        """Repeat an edit; see `Journal.redo`."""
        return self._changed(image, self.journal(image).redo(revision))

    def take(self, image: ProjectImage, revision: int, *, threshold: float, label: int) -> Saved:
        """Save the outlines of the last segmentation as regions of a class, without those that are there already.

        Raises:
            CvmError: no segmentation, or no region in it.
        """
        found = self.answers.last(image).outlines(threshold, label)
        if not found:
            raise CvmError("there is no region above the threshold to take")

        def taken(document: Document) -> Document:
            known = {region for _, region in document.regions()}
            return add_regions(document, [one for one in found if one not in known], self.project.classes)

        return self._changed(image, self.journal(image).edit(revision, taken))

    def check(self, image: ProjectImage, checked: bool) -> ImageMessage:
        """Mark an image as done, or not."""
        self.journal(image).check(checked)
        self.events.publish(type="image", image=image.id)
        return self.summary(image)

    def points(self, image: ProjectImage) -> list[Point]:
        """Return the points of an image."""
        return [point for _, point in self.journal(image).current().document.points()]

    def summary(self, image: ProjectImage) -> ImageMessage:
        """Describe an image: its size, its state, what is on it, and what is wrong with it."""
        facts = self.project.facts(image)
        problem, saved = facts.problem or image.problem, Saved(Document({}, {}))
        if problem is None:
            try:
                saved = self.journal(image).current()
            except (CvmError, OSError) as error:
                problem = self.project.without_folder(str(error))
        points, regions = len(list(saved.document.points())), len(list(saved.document.regions()))
        return ImageMessage(
            id=image.id,
            name=image.name,
            width=facts.width,
            height=facts.height,
            mpp=facts.mpp,
            state=self._state(saved, points + regions),
            points=points,
            regions=regions,
            revision=saved.revision,
            problem=problem,
            patient=self.project.patient(image),
        )

    def _state(self, saved: Saved, count: int) -> ImageState:
        if saved.checked:
            return "checked"
        if count:
            return "clicked"
        return "predicted" if self.models.output_dir() is not None else "untouched"

    def annotated(self) -> list[Annotated]:
        """Return the images with annotations, as they are now."""
        found = []
        for image in self.project.images.values():
            if image.problem is None and self.project.facts(image).problem is None:
                document = self.journal(image).current().document
                if any(document.points()) or any(document.regions()):
                    found.append(Annotated(image, document))
        return found

    def next_image(self, after: str | None) -> tuple[str | None, str]:
        """Choose the next image without annotations, and say why."""
        order = list(self.project.images)
        first = order.index(after) + 1 if after in order else 0
        found = [self.summary(self.project.images[key]) for key in (*order[first:], *order[:first])]
        waiting = [one.id for one in found if one.problem is None and one.state in ("untouched", "predicted")]
        waiting = [key for key in waiting if key != after]
        if not waiting:
            return None, "every image has annotations or is checked"
        if not self.models.get().trained:
            return waiting[0], "the next image without annotations"
        scores = {key: self._uncertainty(key) for key in waiting[:RANKED]}
        best = max(scores, key=lambda key: scores[key])
        return best, f"the network is least sure of this image (mean entropy {scores[best]:.2f} bits)"

    def _uncertainty(self, image_id: str) -> float:
        try:
            return self.answers.uncertainty(self.project.images[image_id])
        except (CvmError, OSError):
            return -1.0

    def watch(self) -> None:
        """Look at the annotation files until `stop`, and tell the pages of changes by other programs."""
        broken: set[str] = set()
        while not self._stopped.wait(WATCHED_EVERY):
            with self._lock:
                journals = list(self._journals.items())
            for image_id, journal in journals:
                try:
                    if journal.changed_on_disk():
                        self._changed(self.project.images[image_id], journal.current())
                    broken.discard(image_id)
                except (CvmError, OSError):  # half written, or damaged: the next request says so
                    if image_id not in broken:
                        self.events.publish(type="image", image=image_id)
                    broken.add(image_id)

    def warm_up(self) -> None:
        """Load the network in use before it is asked; the request that needs it says what is wrong with it."""
        with suppress(CvmError, OSError):
            self.models.get()

    def stop(self) -> None:
        """End `watch` and the streams of events."""
        self._stopped.set()
        self.events.close()

    def _changed(self, image: ProjectImage, saved: Saved) -> Saved:
        self.events.publish(type="annotations", image=image.id, revision=saved.revision)
        return saved

    def _edited(self, image: ProjectImage, document: Document, edits: Sequence[Edit]) -> Document:
        """Return the document after edits; points stay inside the image."""
        classes = self.project.classes
        for edit in edits:
            if isinstance(edit, AddEdit):
                self._check_inside(image, edit.x, edit.y)
                document = add_point(document, Point(edit.x, edit.y, edit.label), classes)
            elif isinstance(edit, MoveEdit):
                self._check_inside(image, edit.x, edit.y)
                document = move_point(document, int(edit.id), edit.x, edit.y)
            elif isinstance(edit, RemoveEdit):
                document = remove(document, int(edit.id), kind="point" if edit.op == "remove" else "region")
            else:
                document = relabel(document, int(edit.id), edit.label, classes)
        return document

    def _check_inside(self, image: ProjectImage, x: float, y: float) -> None:
        facts = self.project.facts(image)
        if facts.problem is not None:
            raise CvmError(facts.problem)
        if not (0 <= x < facts.width and 0 <= y < facts.height):
            raise CvmError(f"the point ({x:g}, {y:g}) lies outside the image of {facts.width} x {facts.height} px")


def annotations_message(saved: Saved) -> AnnotationsMessage:
    """Describe the saved annotations."""
    return AnnotationsMessage(
        revision=saved.revision,
        points=[
            PointMessage(id=str(key), x=point.x, y=point.y, label=point.label) for key, point in saved.document.points()
        ],
        regions=[
            RegionMessage(id=str(key), label=region.label, **vars(outline_message(region)))
            for key, region in saved.document.regions()
        ],
        can_undo=bool(saved.undo),
        can_redo=bool(saved.redo),
        checked=saved.checked,
    )


def outline_message(region: Region) -> OutlineMessage:
    """Describe the outline of a region."""
    return OutlineMessage(exterior=list(region.exterior), holes=[list(hole) for hole in region.holes])
