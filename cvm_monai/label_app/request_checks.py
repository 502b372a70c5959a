"""Check requests before MONAI Label's code: forms must be JSON objects, background tasks get known keys only.

MONAI Label 0.8.5 takes any JSON in a form and fails with status 500. It puts a request's `bundle_path` on the
PYTHONPATH of the process of a background task, so that an uploaded file would run as code, and its `gpus` into the
environment.
"""

import functools
import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.label_app.answer import DEFAULTS as NUMBERS
from cvm_monai.label_app.training import KNOBS
from cvm_monai.label_app.uploads import check_tag

ALL_METHODS = ("model", "gpus", "device", "logging")
BATCH = ("images", "labels", "multi_gpu", "save_label", "label_tag", "max_workers", "max_batch_size")
SEGMENTATION = ("foreground", "background", "location", "size", "roi", *NUMBERS, "mpp")
RESULT = ("min_poly_area", "polygons", "result_extension", "result_write_to_file")
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "train": tuple(KNOBS),
    "batch_infer": (*BATCH, *SEGMENTATION, *RESULT),
    "scoring": ("method",),
}
"""Allowed keys of a request by MONAI Label's method, beside `ALL_METHODS`."""

IMAGES = ("all", "labeled", "unlabeled")
GPUS = re.compile(r"all|[0-9]{1,4}(,[0-9]{1,4}){0,63}")

logger = logging.getLogger(__name__)


Check = Callable[[Mapping[str, Any], str], None]
"""Raises CvmError where a request with known keys cannot be served by a method."""


def checked_request(request: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Check a request for a background process; returns its known keys and drops the others.

    Raises:
        CvmError: `gpus` that are neither `all` nor numbers with commas between them, a value of the wrong type
            for MONAI Label, or an unknown method.
    """
    if method not in ALLOWED:
        raise CvmError(f"there is no background task {method[:60]!r}")
    gpus = request.get("gpus")
    if gpus not in (None, "") and not (isinstance(gpus, str) and GPUS.fullmatch(gpus)):
        raise CvmError(f"gpus must be all, or numbers such as 0,1, got {gpus!r}"[:300])
    _check_kinds(request)
    known = (*ALL_METHODS, *ALLOWED[method])
    dropped = sorted(str(key)[:40] for key in request if key not in known)
    if dropped:
        logger.info("ignored in a request to %s: %s", method, ", ".join(dropped[:20]))
    return {key: value for key, value in request.items() if key in known}


def _check_kinds(request: Mapping[str, Any]) -> None:
    """Refuse values on which MONAI Label would fail."""
    model, level, images = (request.get(name) for name in ("model", "logging", "images"))
    if model is not None and not isinstance(model, str):
        raise CvmError(f"model must be a name, got {model!r}"[:200])
    if level not in (None, "") and (not isinstance(level, str) or level.upper() not in logging.getLevelNamesMapping()):
        raise CvmError(f"logging must be a level such as INFO, got {level!r}"[:200])
    listed = isinstance(images, list) and all(isinstance(image, str) for image in images)
    if images is not None and images not in IMAGES and not listed:
        raise CvmError(f"images must be one of {', '.join(IMAGES)}, or a list of ids, got {images!r}"[:200])
    for name in ("max_workers", "max_batch_size"):
        value = request.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise CvmError(f"{name} must be a whole number from 0, got {value!r}"[:200])
    if request.get("label_tag"):
        check_tag(str(getattr(request["label_tag"], "value", request["label_tag"])))


def secure_background_tasks(utils: Any, *importers: Any, check: Check | None = None) -> None:
    """Patch MONAI Label, once, so that every background task begins with `checked_request`.

    The request is checked where it is accepted, so that a refusal is an answer, and again where the process starts.

    Args:
        utils: the module `monailabel.utils.async_tasks.utils`.
        importers: modules that hold its `run_background_task` under the same name.
        check: called when a request is accepted, to refuse one that would fail later; the last one given is used.
    """
    if hasattr(utils.run_background_task, "check"):
        utils.run_background_task.check = check
        return
    accept, start = utils.run_background_task, utils._task_func

    @functools.wraps(accept)
    def accepted(request: Mapping[str, Any], method: str, *rest: Any, **options: Any) -> Any:
        known = checked_request(request, method)
        asked: Check | None = accepted.check  # type: ignore[attr-defined]
        if asked is not None:
            asked(known, method)
        return accept(known, method, *rest, **options)

    @functools.wraps(start)
    def started(task: dict[str, Any], method: str, *rest: Any, **options: Any) -> Any:
        task["request"] = checked_request(task["request"], method)
        return start(task, method, *rest, **options)

    accepted.check = check  # type: ignore[attr-defined]
    replaced: tuple[tuple[str, Callable[..., Any]], ...] = (("run_background_task", accepted), ("_task_func", started))
    for name, function in replaced:
        setattr(utils, name, function)
    for module in importers:
        module.run_background_task = accepted


def read_object(text: str | bytes) -> dict[str, Any]:
    """Read the object in a JSON text; `null` is an empty one.

    Raises:
        CvmError: any other JSON, or malformed text.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    if found is None:
        return {}
    if not isinstance(found, dict):
        shown = found if isinstance(found, str) else json.dumps(found)
        raise CvmError(f'parameters must be a JSON object such as {{"foreground": [[40, 32]]}}, got {shown[:60]}')
    return found


class ObjectsAlone:
    """Stand-in for the module `json` whose `loads` is `read_object`."""

    loads = staticmethod(read_object)

    def __getattr__(self, name: str) -> Any:
        return getattr(json, name)


def secure_forms(*endpoints: Any) -> None:
    """Patch modules of MONAI Label's endpoints to read only JSON objects, and to refuse to send a missing file.

    Args:
        endpoints: `monailabel.endpoints.infer`, `wsi_infer` and `datastore`.
    """
    for module in endpoints:
        module.json = ObjectsAlone()
        send = getattr(module, "send_response", None)
        if send is not None and not hasattr(send, "checks_files"):
            module.send_response = _checked(send)


def _checked(send: Any) -> Any:
    """Wrap a sender of results to refuse a requested file that was not made."""

    def checked(datastore: Any, result: dict[str, Any], output: Any, background_tasks: Any) -> Any:
        if output == "image" and not (result.get("file") or result.get("label")):
            raise CvmError("output=image asks for a file: leave out result_write_to_file, or ask for output=json")
        return send(datastore, result, output, background_tasks)

    checked.checks_files = True  # type: ignore[attr-defined]
    return checked
