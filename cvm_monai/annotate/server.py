"""The application: the project's addresses, the page, and how errors are answered."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.background import BackgroundTask

from cvm_monai import __version__
from cvm_monai.annotate.access import Access
from cvm_monai.annotate.dataset import TESTED_FROM, keeps_a_test
from cvm_monai.annotate.exports import Source, What, export
from cvm_monai.annotate.image_routes import ImageRoutes, MissingError, StaleRevisionError
from cvm_monai.annotate.messages import (
    ClassMessage,
    ModelMessage,
    NextMessage,
    ProjectMessage,
    SettingsMessage,
)
from cvm_monai.annotate.training import Trainings
from cvm_monai.annotate.training_routes import TrainingRoutes
from cvm_monai.annotate.workspace import Workspace
from cvm_monai.errors import CvmError
from cvm_monai.interactive.cold_start import cold_kind
from cvm_monai.interactive.current import recorded_knobs
from cvm_monai.knobs import MODEL
from cvm_monai.networks.extractor_names import IMAGENET

PAGE = Path(__file__).parent / "page"
"""The built page, which `make web` writes."""


def create_app(
    workspace: Workspace,
    *,
    token: str,
    port: int,
    hosts: tuple[str, ...] = (),
    page: Path | None = PAGE,
) -> Access:
    """Make the application of a workspace.

    Args:
        token: that requests must bring, see `Access`.
        port: of the server.
        hosts: further names by which it may be called.
        page: folder of the built page; None: the API alone.
    """

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        for work in (workspace.watch, workspace.warm_up):
            Thread(target=work, name=work.__name__, daemon=True).start()
        yield
        workspace.stop()

    app = FastAPI(
        title="cvm-monai annotate",
        version=__version__,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=running,
    )
    app.include_router(ImageRoutes(workspace).router())
    app.include_router(ProjectRoutes(workspace).router())
    app.include_router(TrainingRoutes(workspace, _trainings(workspace)).router())
    _answer_errors(app, workspace)
    if page is not None:
        app.mount("/", StaticFiles(directory=page, html=True), name="page")
    return Access(app, token=token, port=port, hosts=hosts)


def _trainings(workspace: Workspace) -> Trainings:
    """Make the trainings of a workspace: a network that is trained is used at once, and pages are told."""

    def trained(folder: Path) -> None:
        workspace.models.use(folder)
        workspace.events.publish(type="project")

    return Trainings(
        workspace.project,
        device=str(workspace.models.device),
        trained=trained,
        changed=lambda: workspace.events.publish(type="training"),
    )


class ProjectRoutes:
    """The addresses of the project as a whole."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.project = workspace, workspace.project

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(prefix="/api", tags=["project"])
        router.add_api_route("/project", self.describe, methods=["GET"])
        router.add_api_route("/next", self.next, methods=["GET"])
        router.add_api_route("/export", self.export, methods=["GET"], response_class=FileResponse)
        router.add_api_route("/events", self.events, methods=["GET"], response_class=StreamingResponse)
        return router

    def describe(self) -> ProjectMessage:
        """The folder, its classes, the network in use and all images."""
        project, colours = self.project, self.project.colours()
        classes = [
            ClassMessage(number=number, name=name, colour="#{:02x}{:02x}{:02x}".format(*colours[number]))
            for number, name in enumerate(project.classes.names)
        ]
        output = self.workspace.models.output_dir()
        knobs = recorded_knobs(output)
        settings = {name: MODEL[name].default if output is None else knobs[name] for name in ("lam", "eta")}
        return ProjectMessage(
            folder=project.folder.name,
            classes=classes,
            model=self._model(output),
            features=cold_kind() if output is None else "network",
            pretrained=cold_kind() == IMAGENET,
            settings=SettingsMessage(**settings),
            tested_from=TESTED_FROM,
            images=[self.workspace.summary(image) for image in project.images.values()],
        )

    def next(self, after: str | None = None) -> NextMessage:
        """The image to annotate next."""
        found, reason = self.workspace.next_image(after)
        return NextMessage(id=found, reason=reason)

    def export(
        self,
        what: What = "geojson",
        images: Annotated[str, Query(max_length=40)] = "all",
        source: Source = "annotations",
    ) -> FileResponse:
        """A file of annotations or predictions, an archive for several images."""
        chosen = list(self.project.images.values())
        if images != "all":
            if images not in self.project.images:
                raise MissingError("there is no such image")
            chosen = [self.project.images[images]]
        made = export(self.workspace, chosen, what=what, source=source)
        cleaning = BackgroundTask(made.path.unlink, missing_ok=True)
        return FileResponse(made.path, filename=made.name, background=cleaning, headers={"cache-control": "no-store"})

    async def events(self) -> StreamingResponse:
        """Server-sent events: what has changed, in this page or in another."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self.workspace.events.stream(), media_type="text/event-stream", headers=headers)

    def _model(self, output_dir: Path | None) -> ModelMessage | None:
        if output_dir is None:
            return None
        here = output_dir.resolve().is_relative_to(self.project.work / "runs")
        record = output_dir / "run.json"
        when = datetime.fromtimestamp(record.stat().st_mtime).isoformat(" ", "seconds") if record.is_file() else None
        return ModelMessage(
            name=output_dir.name,
            source="training" if here else "given",
            trained_at=when,
            tested=keeps_a_test(output_dir),
        )


def _answer_errors(app: FastAPI, workspace: Workspace) -> None:
    """Answer errors of requests by a status and one sentence."""

    def answered(status: int, sentence: str, **further: object) -> JSONResponse:
        text = workspace.project.without_folder(" ".join(sentence.split()))
        return JSONResponse({"detail": text[:1000], **further}, status)

    async def stale(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StaleRevisionError)
        return answered(409, str(error), current=error.current.model_dump(mode="json"))

    async def missing(_: Request, error: Exception) -> JSONResponse:
        return answered(404, str(error))

    async def bad(_: Request, error: Exception) -> JSONResponse:
        return answered(400, str(error))

    async def malformed(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = (error.errors() or [{}])[0]
        place = ".".join(str(part) for part in first.get("loc", ())[1:]) or "the body"
        return answered(422, f"{place} cannot be read: {first.get('msg', 'it is malformed')}")

    async def failed(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OSError)
        return answered(500, f"nothing was saved: {error.strerror or error}")

    app.add_exception_handler(StaleRevisionError, stale)
    app.add_exception_handler(MissingError, missing)
    app.add_exception_handler(CvmError, bad)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(OSError, failed)
