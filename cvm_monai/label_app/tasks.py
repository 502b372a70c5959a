"""MONAI Label's tasks: segmentation of one image and of many, training, and the choice of the next image."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from cvm_monai.errors import CvmError
from cvm_monai.interactive.current import ModelLoader
from cvm_monai.label_app.answer import DEFAULTS as OUTLINES
from cvm_monai.label_app.answer import Method, Segmenter
from cvm_monai.label_app.app_settings import AppSettings
from cvm_monai.label_app.outputs import predicted_names
from cvm_monai.label_app.running import recorded, say
from cvm_monai.label_app.strategies import First, MostUncertain, Random
from cvm_monai.label_app.training import DEFAULTS, KNOBS, Start, check_training, read_knobs, summary, train

DESCRIPTIONS: dict[Method, str] = {
    "points": "Segments by foreground and background clicks: the contrast-based variational model on network features",
    "network": "Segments by the trained network alone",
}

SHOWN = ("learning_rate", "batch_size", "pairs", "seed")
"""Knobs shown to clients beside `DEFAULTS`."""

logger = logging.getLogger(__name__)


class CvmInferTask(InferTask):
    """Segmentation task of one method.

    MONAI Label's own tasks squeeze the wrong axis of 2-D images, write floating point PNGs and accept any path of the
    server as a request's image; this one has only the interface in common with them.

    Args:
        segmenter: does the segmentation.
        method: of segmentation.
    """

    def __init__(self, segmenter: Segmenter, method: Method) -> None:
        names = predicted_names(segmenter.settings.names if method == "network" else segmenter.settings.names[:2])
        config: dict[str, Any] = {"result_extension": [".png", ".nii.gz", ".nrrd", ".geojson", ".xml", ".json"]}
        config |= dict(OUTLINES)
        super().__init__(
            type=InferType.DEEPGROW if method == "points" else InferType.SEGMENTATION,
            labels={name: label for label, name in enumerate(names) if label},
            dimension=2,
            description=DESCRIPTIONS[method],
            config=config,
        )
        self.segmenter, self.method = segmenter, method

    def info(self) -> dict[str, Any]:
        """Return the facts that QuPath's plug-in reads: a `pathology` model that is not a NuClick.

        For a NuClick the plug-in sends points of every class as foreground and keeps earlier results; for others it
        sends points of the classes Positive and Negative separately and replaces objects of the model's classes.
        """
        return super().info() | {"pathology": True, "nuclick": False}

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        extension = request.get("result_extension")
        if isinstance(extension, list):  # a client may echo the options of `info`
            request = request | {"result_extension": extension[0] if extension else None}
        write = bool(request.get("result_write_to_file", True))
        return self.segmenter(request, Path(request["image"]), method=self.method, write=write)


class OneAtATime(BatchInferTask):
    """Run MONAI Label's batch one image after the other; by default it distributes them over GPUs, even missing ones.

    An image that cannot be segmented is reported with the reason; the others are segmented.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __call__(self, request: dict[str, Any], datastore: Any, infer: Any) -> Any:
        failed: dict[str, str] = {}

        def tried(asked: dict[str, Any], store: Any) -> dict[str, Any]:
            try:
                found: dict[str, Any] = infer(asked, store)
                return found
            except Exception as error:
                reason = " ".join(str(getattr(error, "msg", error)).split()) or type(error).__name__
                expected = isinstance(error, ValueError | MONAILabelException)
                logger.warning("not segmented: %s: %s", asked["image"], reason, exc_info=not expected)
                failed[asked["image"]] = reason
                return {"error": reason}

        settings = {"multi_gpu": False, "gpus": "all", "device": self.device, "max_workers": 1}
        results: dict[str, Any] = super().__call__(request | settings, datastore, tried)
        named = "; ".join(f"{image}: {reason}" for image, reason in failed.items())
        if failed and len(failed) == len(results):
            raise CvmError(f"none of the {len(results)} images was segmented: {named}"[:2000])
        logger.info("%d of %d images were segmented; not: %s", len(results) - len(failed), len(results), named or "-")
        return results


class CvmTrainTask(TrainTask):
    """Train the bundle's network on every image with a label of the tag `final`, and use it from then on.

    Args:
        settings: of the app.
        current: the network in use.
    """

    def __init__(self, settings: AppSettings, current: ModelLoader) -> None:
        super().__init__("Trains from points by partial cross-entropy and the contrast-based variational model")
        self.settings, self.current = settings, current

    def config(self) -> dict[str, Any]:
        """Return values that a client may change; lists are choices, the first is the default."""
        shown: dict[str, Any] = {name: KNOBS[name].default for name in SHOWN} | dict(DEFAULTS)
        return shown | {"start": list(get_args(Start)), "supervision": ["cvm", "partial_ce"]}

    def stats(self) -> dict[str, Any]:
        output_dir = self.current.output_dir()
        return {} if output_dir is None else summary(output_dir)

    def check(self, request: Mapping[str, Any], datastore: Any) -> None:
        """Refuse at once a request that the training would refuse after its start.

        Raises:
            CvmError: as `check_training`.
        """
        current = self.current.output_dir()
        check_training(datastore.labels_of(), settings=self.settings, current=current, knobs=read_knobs(request))

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        labelled = datastore.labels_of()
        with recorded(self.settings.work, request):
            knobs, current = read_knobs(request), self.current.output_dir()
            trained = train(labelled, settings=self.settings, current=current, knobs=knobs, say=say)
            self.current.use(trained.output_dir)
        return {"output_dir": trained.output_dir.name, "images": trained.images} | summary(trained.output_dir)


class CvmStrategy(Strategy):
    """Strategy that chooses the next image or patch.

    Args:
        choose: returns the id, and the place of a patch; None where all images have labels.
    """

    def __init__(self, choose: Random | First | MostUncertain) -> None:
        super().__init__(choose.description)
        self.choose = choose

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        return self.choose(request, datastore)
