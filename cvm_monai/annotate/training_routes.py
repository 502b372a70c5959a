"""The addresses of the training, its figures, and the registration of its network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from cvm_monai.annotate.image_routes import MissingError
from cvm_monai.annotate.messages import RegisteredMessage, RegisterRequest, TrainingMessage, TrainingRequest
from cvm_monai.annotate.registration import register_training
from cvm_monai.annotate.training import Trainings
from cvm_monai.annotate.training_progress import figures, read_progress, training_seconds
from cvm_monai.annotate.workspace import Workspace
from cvm_monai.errors import CvmError


class TrainingRoutes:
    """The addresses below `/api/training`, and `/api/register`."""

    def __init__(self, workspace: Workspace, trainings: Trainings) -> None:
        self.workspace, self.trainings = workspace, trainings

    def router(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter(prefix="/api", tags=["training"])
        router.add_api_route("/training", self.status, methods=["GET"])
        router.add_api_route("/training/figures/{name}", self.figure, methods=["GET"], response_class=FileResponse)
        writes: dict[str, Callable[..., Any]] = {
            "/training": self.start,
            "/training/stop": self.stop,
            "/training/resume": self.resume,
            "/register": self.register,
        }
        for path, writing in writes.items():
            router.add_api_route(path, writing, methods=["POST"])
        return router

    def status(self) -> TrainingMessage:
        """How the last training stands."""
        record, folder = self.trainings.record, self.trainings.folder()
        if folder is None:
            return TrainingMessage(state="none")
        progress = read_progress(folder)
        running = record.phase == "running"
        return TrainingMessage(
            state=record.phase,
            run=record.run,
            epoch=progress.epoch,
            max_epochs=progress.max_epochs or record.max_epochs,
            seconds=training_seconds(folder) or progress.seconds,
            remaining_seconds=progress.remaining if running else None,
            curves=progress.curves,
            previews=[_address(file) for file in figures(folder)],
            message=record.message,
            can_resume=self.trainings.can_resume(),
        )

    def start(self, request: TrainingRequest) -> TrainingMessage:
        """Start a training on all annotated images."""
        self.trainings.start(
            self.workspace.annotated(), max_epochs=request.max_epochs, knobs=request.knobs, learner=request.learner
        )
        return self.status()

    def stop(self) -> TrainingMessage:
        """Interrupt the training."""
        self.trainings.stop()
        return self.status()

    def resume(self) -> TrainingMessage:
        """Go on with the training that was interrupted."""
        self.trainings.resume()
        return self.status()

    def figure(self, name: str) -> FileResponse:
        """A figure of the training."""
        folder = self.trainings.folder()
        found = {file.name: file for file in (figures(folder) if folder is not None else ())}
        if name not in found:
            raise MissingError("there is no such figure")
        return FileResponse(found[name], headers={"cache-control": "private, max-age=86400"})

    def register(self, request: RegisterRequest) -> RegisteredMessage:
        """Register the network in use; it is tested first where that was not done."""
        output = self.workspace.models.output_dir()
        if output is None:
            raise CvmError("there is no trained network yet: train one first")
        name, version = register_training(output, request.name)
        return RegisteredMessage(name=name, version=version)


def _address(file: Path) -> str:
    """Return the address of a figure, another one whenever it is drawn anew."""
    return f"/api/training/figures/{file.name}?drawn={file.stat().st_mtime_ns}"
