"""The messages of the server's API: what a request may hold and what an answer holds. OpenAPI is made from them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cvm_monai.interactive.trainings import Learner

ImageState = Literal["untouched", "clicked", "predicted", "checked"]
TrainingState = Literal["none", "preparing", "running", "stopping", "stopped", "finished", "failed"]
Features = Literal["network", "pretrained"]
Position = tuple[float, float]
Coordinate = Annotated[float, Field(allow_inf_nan=False, gt=-(2**31), lt=2**31)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Id = Annotated[str, Field(max_length=20, pattern=r"^[0-9]+$")]


class Message(BaseModel):
    """Any message; unknown fields of a request are refused, since a misspelt one would be passed over."""

    model_config = ConfigDict(extra="forbid")


class ClassMessage(Message):
    """A class of the annotations: its label, name and colour (#rrggbb)."""

    number: int
    name: str
    colour: str


class ModelMessage(Message):
    """The trained network in use; `tested`: whether images were kept for a test, which registering needs."""

    name: str
    source: Literal["training", "given"]
    trained_at: str | None
    tested: bool


class SettingsMessage(Message):
    """The defaults of the page's sliders."""

    lam: float
    eta: float
    threshold: float = 0.5


class ImageMessage(Message):
    """An image of the folder, its size in level-0 pixels, and how far its annotation has come."""

    id: str
    name: str
    width: int
    height: int
    mpp: float | None
    state: ImageState
    points: int
    regions: int
    revision: int
    problem: str | None
    patient: str


class ProjectMessage(Message):
    """The folder: its classes, images, network and settings.

    `tested_from`: number of patients with annotations from which a training keeps some for a test. `pretrained`:
    whether a training can fit one layer on pretrained features.
    """

    folder: str
    classes: list[ClassMessage]
    model: ModelMessage | None
    features: str
    pretrained: bool
    settings: SettingsMessage
    tested_from: int
    images: list[ImageMessage]


class TilesMessage(Message):
    """The Deep Zoom pyramid of an image."""

    width: int
    height: int
    tile_size: int
    overlap: int = 0
    max_level: int


class PointMessage(Message):
    """A point in level-0 pixels."""

    id: str
    x: float
    y: float
    label: int


class OutlineMessage(Message):
    """A polygon with holes, in level-0 pixels."""

    exterior: list[Position]
    holes: list[list[Position]]


class RegionMessage(OutlineMessage):
    """An annotated region."""

    id: str
    label: int


class AnnotationsMessage(Message):
    """The saved annotations of an image and their revision."""

    revision: int
    points: list[PointMessage]
    regions: list[RegionMessage]
    can_undo: bool
    can_redo: bool
    checked: bool


class AddEdit(Message):
    """Add a point."""

    op: Literal["add"]
    x: Coordinate
    y: Coordinate
    label: int


class MoveEdit(Message):
    """Move a point."""

    op: Literal["move"]
    id: Id
    x: Coordinate
    y: Coordinate


class RemoveEdit(Message):
    """Remove a point or a region."""

    op: Literal["remove", "remove_region"]
    id: Id


class RelabelEdit(Message):
    """Give a point or a region another class."""

    op: Literal["relabel"]
    id: Id
    label: int


Edit = Annotated[AddEdit | MoveEdit | RemoveEdit | RelabelEdit, Field(discriminator="op")]


class EditsRequest(Message):
    """Edits of the annotations of a revision, made together or not at all."""

    revision: int
    edits: list[Edit] = Field(max_length=10_000)


class RevisionRequest(Message):
    """The revision that an undo or a redo starts from."""

    revision: int


class WindowMessage(Message):
    """A rectangle in level-0 pixels."""

    x: Coordinate
    y: Coordinate
    width: Annotated[float, Field(gt=0, lt=2**31)]
    height: Annotated[float, Field(gt=0, lt=2**31)]

    def box(self) -> tuple[float, float, float, float]:
        """Return x, y, width and height."""
        return self.x, self.y, self.width, self.height


class SegmentRequest(Message):
    """What to segment, by which settings; `features`: the trained network's, or the pretrained ones alone."""

    window: WindowMessage | None = None
    label: int = 1
    lam: float | None = None
    eta: float | None = None
    threshold: Share = 0.5
    features: Features = "network"


class PlaceMessage(Message):
    """The place where the next click helps most."""

    x: float
    y: float
    reason: str


class SegmentMessage(Message):
    """The soft segmentation u of a window (PNG, base64) and its outlines, or the reason why there is none."""

    window: WindowMessage
    width: int
    height: int
    label: int
    source: Literal["clicks", "clicks+network", "network"]
    features: str
    seconds: float
    first: bool
    u: str | None
    outlines: list[OutlineMessage]
    reason: str | None
    where_next: PlaceMessage | None


class TakeRequest(Message):
    """The part of the last segmentation that becomes regions of a class."""

    revision: int
    window: WindowMessage | None = None
    threshold: Share = 0.5
    label: int = 1


class CheckedRequest(Message):
    """Whether an image is marked as done."""

    checked: bool


class NextMessage(Message):
    """The image to annotate next, and why."""

    id: str | None
    reason: str


class TrainingRequest(Message):
    """What a training fits, and its knobs."""

    learner: Learner = "network"
    max_epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    knobs: dict[str, float | int | str | bool | None] = Field(default_factory=dict, max_length=50)


class TrainingMessage(Message):
    """The state of the last training: progress, curves, previews."""

    state: TrainingState
    run: str | None = None
    epoch: int = 0
    max_epochs: int = 0
    seconds: float = 0.0
    remaining_seconds: float | None = None
    curves: dict[str, list[tuple[int, float]]] = Field(default_factory=dict)
    previews: list[str] = Field(default_factory=list)
    message: str | None = None
    can_resume: bool = False


class RegisterRequest(Message):
    """The name of a registered model."""

    name: Annotated[str, Field(min_length=1, max_length=100)]


class RegisteredMessage(Message):
    """The version that was registered."""

    name: str
    version: str
