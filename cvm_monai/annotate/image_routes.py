"""The addresses of one image: thumbnail, tiles, annotations, edits, segmentation and prediction."""

import base64
import io
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Response
from PIL import Image

from cvm_monai.annotate.journal import Saved, StaleError
from cvm_monai.annotate.messages import (
    AnnotationsMessage,
    CheckedRequest,
    EditsRequest,
    ImageMessage,
    PlaceMessage,
    RevisionRequest,
    SegmentMessage,
    SegmentRequest,
    Share,
    TakeRequest,
    TilesMessage,
    WindowMessage,
)
from cvm_monai.annotate.project import ProjectImage
from cvm_monai.annotate.segmentation import Answer
from cvm_monai.annotate.tiles import THUMBNAIL, TILE, EncodedTiles, Zoom, read_tile
from cvm_monai.annotate.workspace import Workspace, annotations_message, outline_message
from cvm_monai.errors import CvmError
from cvm_monai.interactive.window import Window
from cvm_monai.knobs import MODEL
from cvm_monai.slides import SlideImage

PICTURES = {"cache-control": "private, max-age=300"}
"""How long a browser keeps pictures: images seldom change."""


class MissingError(Exception):
    """Raised for an address of something that does not exist."""


class StaleRevisionError(Exception):
    """Raised for an edit of annotations that have changed; holds the current ones."""

    def __init__(self, sentence: str, current: AnnotationsMessage) -> None:
        super().__init__(sentence)
        self.current = current


class ImageRoutes:
    """The addresses below `/api/images/{image_id}`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.project = workspace, workspace.project
        self.encoded = EncodedTiles()

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(prefix="/api/images/{image_id}", tags=["images"])
        reads: dict[str, Callable[..., Any]] = {
            "/thumbnail.jpg": self.thumbnail,
            "/tiles/{level}/{column}_{row}.jpg": self.tile,
            "/tiles": self.tiles,
            "/annotations": self.annotations,
            "/prediction": self.prediction,
        }
        for path, reading in reads.items():
            router.add_api_route(path, reading, methods=["GET"])
        writes: dict[str, Callable[..., Any]] = {
            "/edits": self.edits,
            "/undo": self.undo,
            "/redo": self.redo,
            "/segment": self.segment,
            "/take": self.take,
            "/checked": self.checked,
        }
        for path, writing in writes.items():
            router.add_api_route(path, writing, methods=["POST"])
        return router

    def thumbnail(self, image_id: str) -> Response:
        """The whole image, its longer side 256 px."""
        image = self._image(image_id)
        made = self.encoded.get((*_version(image), "thumbnail"), lambda: self._opened(image).thumbnail(THUMBNAIL))
        return Response(made, media_type="image/jpeg", headers=PICTURES)

    def tile(self, image_id: str, level: int, column: int, row: int) -> Response:
        """One tile of Deep Zoom."""
        image = self._image(image_id)
        zoom = Zoom(*self._opened(image).shape)
        if not zoom.has(level, column, row):
            raise MissingError(f"there is no tile {column}_{row} in level {level}")
        key = (*_version(image), level, column, row)
        made = self.encoded.get(key, lambda: read_tile(self._opened(image), level, column, row))
        return Response(made, media_type="image/jpeg", headers=PICTURES)

    def tiles(self, image_id: str) -> TilesMessage:
        """What a viewer needs to ask for tiles."""
        height, width = self._opened(self._image(image_id)).shape
        return TilesMessage(width=width, height=height, tile_size=TILE, max_level=Zoom(height, width).max_level)

    def annotations(self, image_id: str) -> AnnotationsMessage:
        """The current annotations."""
        return annotations_message(self.workspace.journal(self._image(image_id)).current())

    def edits(self, image_id: str, request: EditsRequest) -> AnnotationsMessage:
        """Save edits, all or none; answered when they are on disk."""
        image = self._image(image_id)
        return self._saved(image, lambda: self.workspace.edit(image, request.revision, request.edits))

    def undo(self, image_id: str, request: RevisionRequest) -> AnnotationsMessage:
        """Undo the last edit."""
        image = self._image(image_id)
        return self._saved(image, lambda: self.workspace.undo(image, request.revision))

    def redo(self, image_id: str, request: RevisionRequest) -> AnnotationsMessage:
        """Repeat the edit that was undone last."""
        image = self._image(image_id)
        return self._saved(image, lambda: self.workspace.redo(image, request.revision))

    def take(self, image_id: str, request: TakeRequest) -> AnnotationsMessage:
        """Save the outlines of the last segmentation as regions of a class."""
        image = self._image(image_id)
        last = self.workspace.answers.last(image)
        if request.window is not None and _window_message(last.window) != request.window:
            raise CvmError("the segmentation is of another window by now: segment again")
        return self._saved(
            image,
            lambda: self.workspace.take(image, request.revision, threshold=request.threshold, label=request.label),
        )

    def checked(self, image_id: str, request: CheckedRequest) -> ImageMessage:
        """Mark an image as done, or not."""
        return self.workspace.check(self._image(image_id), request.checked)

    def segment(self, image_id: str, request: SegmentRequest) -> SegmentMessage:
        """Segment a window by the clicks in it."""
        image = self._image(image_id)
        given = {"lam": request.lam, "eta": request.eta}
        answer = self.workspace.answers.segment(
            image,
            self.workspace.points(image),
            window=None if request.window is None else request.window.box(),
            label=self._label(request.label),
            chosen={name: MODEL[name].read(value) for name, value in given.items() if value is not None},
            pretrained=request.features == "pretrained",
        )
        return segment_message(answer, request.threshold)

    def prediction(
        self,
        image_id: str,
        threshold: Annotated[Share, Query()] = 0.5,
        label: int = 1,
        x: float | None = None,
        y: float | None = None,
        width: float | None = None,
        height: float | None = None,
    ) -> SegmentMessage:
        """Segment a window, by default the whole image, by the trained network alone."""
        image = self._image(image_id)
        if self.workspace.models.output_dir() is None:
            raise MissingError("there is no trained network yet: train one first")
        window = None
        if x is not None and y is not None and width is not None and height is not None:
            window = WindowMessage(x=x, y=y, width=width, height=height).box()
        return segment_message(
            self.workspace.answers.predict(image, window=window, label=self._label(label)), threshold
        )

    def _image(self, image_id: str) -> ProjectImage:
        found = self.project.images.get(image_id)
        if found is None:
            raise MissingError("there is no such image")
        return found

    def _opened(self, image: ProjectImage) -> SlideImage:
        return self.project.opened(image)

    def _label(self, label: int) -> int:
        """Return the class of the target; the background is segmented as what is not the target."""
        if not 0 <= label < len(self.project.classes.names):
            raise CvmError(f"there is no class {label}")
        return max(1, label)

    def _saved(self, image: ProjectImage, act: Callable[[], Saved]) -> AnnotationsMessage:
        """Act, and describe what is saved.

        Raises:
            StaleRevisionError: the annotations have changed meanwhile.
        """
        try:
            return annotations_message(act())
        except StaleError as error:
            current = annotations_message(self.workspace.journal(image).current())
            raise StaleRevisionError(str(error), current) from None


def segment_message(answer: Answer, threshold: float) -> SegmentMessage:
    """Describe a segmentation: u as a PNG, its outlines at a threshold, and the place of the next click."""
    height, width = (0, 0) if answer.u is None else answer.u.shape
    place = answer.place()
    return SegmentMessage(
        window=_window_message(answer.window),
        width=width,
        height=height,
        label=answer.label,
        source=answer.source,
        features=answer.features,
        seconds=round(answer.seconds, 4),
        first=answer.first,
        u=None if answer.u is None else _png(answer.u),
        outlines=[outline_message(region) for region in answer.outlines(threshold, answer.label)],
        reason=answer.reason,
        where_next=None
        if place is None
        else PlaceMessage(
            x=place[0], y=place[1], reason=f"the largest uncertain region, {100 * place[2].share:.1f} % of the view"
        ),
    )


def _png(u: np.ndarray) -> str:
    """Encode u as base64 of a grey PNG, 255 where u is 1."""
    stream = io.BytesIO()
    Image.fromarray(np.round(u * 255).astype(np.uint8)).save(stream, "PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _window_message(window: Window) -> WindowMessage:
    return WindowMessage(x=window.x, y=window.y, width=window.width, height=window.height)


def _version(image: ProjectImage) -> tuple[str, int, int]:
    """Return a key that changes with the image's file."""
    try:
        facts = image.path.stat()
    except OSError as error:
        raise MissingError(f"{image.path.name} is gone: {error.strerror}") from None
    return image.id, facts.st_mtime_ns, facts.st_size
