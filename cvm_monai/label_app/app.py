"""The app that MONAI Label serves."""

import copy
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from monailabel.config import settings as server_settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException
from monailabel.utils.async_tasks import task as async_task
from monailabel.utils.async_tasks import utils as async_utils

from cvm_monai.errors import CvmError
from cvm_monai.files import private_temporary_folder
from cvm_monai.interactive.current import ModelLoader
from cvm_monai.interactive.prediction import UNTRAINED
from cvm_monai.label_app.answer import Segmenter
from cvm_monai.label_app.app_settings import read_settings
from cvm_monai.label_app.datastore import StudiesDatastore
from cvm_monai.label_app.guard import secure
from cvm_monai.label_app.request_checks import checked_request, secure_background_tasks, secure_forms
from cvm_monai.label_app.running import end_with_server, take_up
from cvm_monai.label_app.strategies import First, MostUncertain, Random
from cvm_monai.label_app.tasks import CvmInferTask, CvmStrategy, CvmTrainTask, OneAtATime
from cvm_monai.label_app.uploads import check_image_file, check_label_file

FORGOTTEN = 3600
"""Seconds after which the upload of a failed request is removed."""

logger = logging.getLogger(__name__)


class NoSessions:
    """Replace MONAI Label's sessions by none: their uploads are unpacked without checks."""

    def get_session(self, *_: Any, **__: Any) -> None:
        return None

    def remove_expired(self) -> int:
        return 0


class CvmApp(MONAILabelApp):
    """Segmentation by clicks and by the trained network, training from points, and active learning."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        if studies.startswith(("http://", "https://")):
            raise CvmError(f"--studies must be a folder of this machine, got {studies}")
        secure_background_tasks(async_utils, async_task, check=self._check_task)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if "OMP_NUM_THREADS" not in os.environ:  # several threads on busy cores can be twenty times slower than one
            os.environ["OMP_NUM_THREADS"] = "1"
            torch.set_num_threads(1)
        # MONAI Label puts uploads among the temporary files: no request can name those of others
        self._uploads = private_temporary_folder("cvm_monai_label_")
        self.settings = read_settings({key: value for key, value in (conf or {}).items()}, studies=studies)
        self.settings.work.mkdir(parents=True, exist_ok=True)
        self.current = ModelLoader(self.settings.work, bundle=self.settings.bundle, device=self.settings.device)
        self.segmenter = Segmenter(self.settings, self.current)
        server = sys.modules.get("monailabel.app")
        if server is not None:
            origins = [str(origin).rstrip("/") for origin in server_settings.MONAI_LABEL_CORS_ORIGINS]
            secure(server.app, conf=conf or {}, arguments=sys.argv[1:], origins=origins)
            secure_forms(*(sys.modules[f"monailabel.endpoints.{name}"] for name in ("infer", "wsi_infer", "datastore")))
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="cvm_monai",
            description="Histopathology segmentation from points by the contrast-based variational model",
            version="0.1.0",
        )

    def init_datastore(self) -> StudiesDatastore:
        return StudiesDatastore(
            self.studies,
            check_image=check_image_file,
            check_label=self._check_label,
            follow_links=self.settings.follow_links,
            auto_reload=server_settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=server_settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_batch_infer(self) -> OneAtATime:
        return OneAtATime(self.settings.device)

    def init_infers(self) -> dict[str, CvmInferTask]:
        return {
            "cvm_points": CvmInferTask(self.segmenter, "points"),
            "cvm": CvmInferTask(self.segmenter, "network"),
        }

    def init_trainers(self) -> dict[str, CvmTrainTask]:
        return {"cvm": CvmTrainTask(self.settings, self.current)}

    def init_strategies(self) -> dict[str, Any]:
        return {
            "random": CvmStrategy(Random(self.segmenter)),
            "first": CvmStrategy(First(self.segmenter)),
            "most_uncertain": CvmStrategy(MostUncertain(self.segmenter)),
        }

    def _load_sessions(self, load: bool = False) -> NoSessions:
        del load
        return NoSessions()

    def on_init_complete(self) -> None:
        """Called in the server only, not in the process of a training."""
        if self.settings.model is not None:
            self.current.use(self.settings.model)
        current = self.current.get()
        logger.info(
            "the current network: %s", current.output_dir or "none is trained yet, clicks use pretrained features"
        )
        take_up(self.settings.work, async_utils)
        end_with_server(async_utils)
        super().on_init_complete()

    def cleanup_sessions(self) -> None:
        """Remove the uploads of failed requests, which MONAI Label leaves; called every five minutes."""
        for file in self._uploads.iterdir():
            if file.is_file() and time.time() - file.stat().st_mtime > FORGOTTEN:
                file.unlink(missing_ok=True)

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Run inference as MONAI Label does, only for images of the studies folder and uploads."""
        store = datastore or self.datastore()
        name, image_id = request.get("model"), request.get("image")
        task = self._infers.get(name) if isinstance(name, str) else None
        if task is None:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, _no_such("model", name, self._infers))
        asked = copy.deepcopy(request) | {"image": str(self._image_path(image_id, store))}
        file, facts = task(asked)
        label_id = file
        if file is not None and request.get("save_label") is True and store.get_image_uri(image_id):
            tag = request.get("label_tag") or "original"
            tag = str(getattr(tag, "value", tag))  # a batch passes an enumeration
            kept = {key: value for key, value in facts.items() if key != "geojson"}
            label_id = store.save_label(image_id, file, tag, {"model": name, "params": kept})
        return {"label": label_id, "tag": "original", "file": file, "params": facts}

    def infer_wsi(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Segment a region, or all, of an image or slide, to ASAP's XML, a Digital Slide Archive document or JSON."""
        output = request.get("output") or "dsa"
        extension = {"asap": ".xml", "dsa": ".json"}.get(output)
        asked = request | {
            "result_extension": extension or ".geojson",
            "result_write_to_file": extension is not None,
            "save_label": False,
        }
        result = self.infer(asked, datastore)
        return {"file": result["file"], "params": result["params"]}

    def next_sample(self, request: dict[str, Any]) -> Any:
        """Choose the next sample as MONAI Label does, with the existing strategies only."""
        name = request.get("strategy") or "random"
        if not isinstance(name, str) or name not in self._strategies:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, _no_such("strategy", name, self._strategies))
        return super().next_sample(request)

    def train(self, request: dict[str, Any]) -> Any:
        return super().train(self._checked(request, "train"))

    def batch_infer(self, request: dict[str, Any], datastore: Any = None) -> Any:
        return super().batch_infer(self._checked(request, "batch_infer"), datastore)

    def _checked(self, request: dict[str, Any], method: str) -> dict[str, Any]:
        """Check a request that starts no process; returns its known keys."""
        known = checked_request(request, method)
        self._check_task(known, method)
        return known

    def _check_task(self, request: Mapping[str, Any], method: str) -> None:
        """Refuse at once a task that would fail after its process has started.

        Raises:
            CvmError: an unknown model or scoring method, labels unfit for a training, or an untrained network.
        """
        model = request.get("model")
        if method == "train":
            if model not in self._trainers:
                raise CvmError(_no_such("trainer", model, self._trainers))
            self._trainers[model].check(request, self.datastore())
        elif method == "batch_infer":
            if model not in self._infers:
                raise CvmError(_no_such("model", model, self._infers))
            if model == "cvm" and self.current.output_dir() is None:
                raise CvmError(UNTRAINED)
        else:
            raise CvmError(_no_such("scoring method", request.get("method"), self._scoring_methods))

    def bundle_path(self, model: object) -> None:
        """Return no folder for the path of a task's process; MONAI Label asks before it checks the model's name."""
        del model

    def model_file(self, model: str, validate: bool = True) -> None:
        """Refuse to send or accept weights."""
        del model, validate

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, Any]:
        """Return what was read of an uploaded label and what was left out, for the answer."""
        read: dict[str, Any] = self._datastore.last_read(image_id)
        if read.get("left_out"):
            logger.warning("the label of %r: left out %s", image_id, read["left_out"])
        return read

    def _check_label(self, path: Path, image_id: str) -> dict[str, Any]:
        return check_label_file(path, Path(self._datastore.get_image_uri(image_id)), classes=self.settings.classes)

    def _image_path(self, image: Any, datastore: Any) -> Path:
        """Find the file of an image's id, or an upload of this server."""
        uri = datastore.get_image_uri(image) if isinstance(image, str) else ""
        if uri:
            return Path(uri)
        path = Path(image) if isinstance(image, str) and "\0" not in image else Path()
        if path.parent == self._uploads and path.is_file() and not path.is_symlink():
            return path
        raise ImageNotFoundException(f"Image {str(image)[:60]!r} not found")


def _no_such(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the error for an unknown name."""
    return f"there is no {kind} {str(name)[:60]!r}; known: {', '.join(known) or 'none'}"
