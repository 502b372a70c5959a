"""What a request may hand to the processes that MONAI Label starts: known keys alone.

MONAI Label 0.8.5 puts a request's `bundle_path` on the PYTHONPATH of that process, so that an uploaded file would run
as code, and its `gpus` into the environment.
"""

import functools
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from cvm_monai.label_app.answer import DEFAULTS as NUMBERS
from cvm_monai.label_app.names import check_tag
from cvm_monai.label_app.training import KNOBS

ALL_METHODS = ("model", "gpus", "device", "logging")
BATCH = ("images", "labels", "multi_gpu", "save_label", "label_tag", "max_workers", "max_batch_size")
SEGMENTATION = ("foreground", "background", "location", "size", "roi", *NUMBERS, "mpp")
RESULT = ("min_poly_area", "polygons", "result_extension", "result_write_to_file")
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "train": tuple(KNOBS),
    "batch_infer": (*BATCH, *SEGMENTATION, *RESULT),
    "scoring": ("method",),
}
"""Keys of a request by MONAI Label's method, beside `ALL_METHODS`."""

IMAGES = ("all", "labeled", "unlabeled")
GPUS = re.compile(r"all|[0-9]{1,4}(,[0-9]{1,4}){0,63}")

logger = logging.getLogger(__name__)


Check = Callable[[Mapping[str, Any], str], None]
"""Raises ValueError where a request, whose keys are known, cannot be served by a method."""


def checked_request(request: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The known keys of a request for a process of its own; the others are dropped.

    Raises:
        ValueError: `gpus` that are neither `all` nor numbers with commas between them, another value of another kind
            than MONAI Label takes, or an unknown method.
    """
    if method not in ALLOWED:
        raise ValueError(f"there is no background task {method[:60]!r}")
    gpus = request.get("gpus")
    if gpus not in (None, "") and not (isinstance(gpus, str) and GPUS.fullmatch(gpus)):
        raise ValueError(f"gpus must be all, or numbers such as 0,1, got {gpus!r}"[:300])
    _check_kinds(request)
    known = (*ALL_METHODS, *ALLOWED[method])
    dropped = sorted(str(key)[:40] for key in request if key not in known)
    if dropped:
        logger.info("passed over in a request to %s: %s", method, ", ".join(dropped[:20]))
    return {key: value for key, value in request.items() if key in known}


def _check_kinds(request: Mapping[str, Any]) -> None:
    """Refuse values that MONAI Label would stumble over."""
    model, level, images = (request.get(name) for name in ("model", "logging", "images"))
    if model is not None and not isinstance(model, str):
        raise ValueError(f"model must be a name, got {model!r}"[:200])
    if level not in (None, "") and (not isinstance(level, str) or level.upper() not in logging.getLevelNamesMapping()):
        raise ValueError(f"logging must be a level such as INFO, got {level!r}"[:200])
    listed = isinstance(images, list) and all(isinstance(image, str) for image in images)
    if images is not None and images not in IMAGES and not listed:
        raise ValueError(f"images must be one of {', '.join(IMAGES)}, or a list of ids, got {images!r}"[:200])
    for name in ("max_workers", "max_batch_size"):
        value = request.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be a whole number from 0, got {value!r}"[:200])
    if request.get("label_tag"):
        check_tag(str(getattr(request["label_tag"], "value", request["label_tag"])))


def secure_background_tasks(utils: Any, *importers: Any, check: Check | None = None) -> None:
    """Let every background task of MONAI Label begin with `checked_request`, once.

    The request is checked where it is accepted, so that a refusal is an answer, and again where the process starts.

    Args:
        utils: the module `monailabel.utils.async_tasks.utils`.
        importers: modules that hold its `run_background_task` under the same name.
        check: says, where a request is accepted, what would make it fail later; the last one given is asked.
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
