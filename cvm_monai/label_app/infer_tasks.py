"""The two segmentations as MONAI Label's tasks."""

from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from cvm_monai.label_app.answer import DEFAULTS, Answerer, Method
from cvm_monai.label_app.outputs import predicted_names

DESCRIPTIONS: dict[Method, str] = {
    "points": "Segments by foreground and background clicks: the contrast-based variational model on network features",
    "network": "Segments by the trained network alone",
}


class CvmInferTask(InferTask):
    """One way to segment.

    MONAI Label's own tasks squeeze the wrong axis of 2-D images, write floating point PNGs and take the image of a
    request for any path of the server; this one shares nothing with them but the interface.

    Args:
        answerer: that segments.
        method: which way.
    """

    def __init__(self, answerer: Answerer, method: Method) -> None:
        names = predicted_names(answerer.settings.names if method == "network" else answerer.settings.names[:2])
        config: dict[str, Any] = {"result_extension": [".png", ".nii.gz", ".nrrd", ".geojson", ".xml", ".json"]}
        config |= dict(DEFAULTS) if method == "points" else {name: DEFAULTS[name] for name in ("simplify", "min_area")}
        super().__init__(
            type=InferType.DEEPGROW if method == "points" else InferType.SEGMENTATION,
            labels={name: label for label, name in enumerate(names) if label},
            dimension=2,
            description=DESCRIPTIONS[method],
            config=config,
        )
        self.answerer, self.method = answerer, method

    def info(self) -> dict[str, Any]:
        """What QuPath's plug-in asks for: `pathology` models, none of them a NuClick.

        To a NuClick the plug-in sends points of every class as foreground, and keeps its earlier results; to others it
        sends points of the classes Positive and Negative apart, and replaces the objects of the model's classes.
        """
        return super().info() | {"pathology": True, "nuclick": False}

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        extension = request.get("result_extension")
        if isinstance(extension, list):  # a client that echoes the options of `info`
            request = request | {"result_extension": extension[0] if extension else None}
        write = bool(request.get("result_write_to_file", True))
        return self.answerer(request, Path(request["image"]), method=self.method, write=write)
