"""MONAI Label's own server made safe: its guard, sentences for errors, and the loopback address."""

import argparse
import logging
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.label_app.guard import Guard, is_loopback, log_refusal

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::", "")

logger = logging.getLogger(__name__)


def given_host(arguments: Sequence[str]) -> str | None:
    """The host that a command line of `monailabel start_server` names, as its parser reads it; None: none."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-i", "--host")
    found: str | None = parser.parse_known_args(list(arguments))[0].host
    return found


def is_local(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for a server of this machine alone: no host, or one that is loopback."""
    host = given_host(arguments)
    return host is None or is_loopback(host)


def secure(application: Any, *, conf: Mapping[str, str], arguments: Sequence[str], origins: Sequence[str]) -> None:
    """Guard a FastAPI application that has just started, once; ValueError becomes status 400 and one sentence.

    Where no host, or a loopback one, was given it serves loopback alone, and the socket, which uvicorn opens after
    this, is bound there.

    Args:
        conf: of the app: `max_image_mib` and `max_label_mib`.
        arguments: the command line.
        origins: sites whose pages may ask.

    Raises:
        CvmError: a limit that is no number above 0.
    """
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.middleware import Middleware

    if any(entry.cls is Guard for entry in application.user_middleware):
        return
    limits = {
        "max_image_mib": _number(conf, "max_image_mib", 4096.0),
        "max_body_mib": _number(conf, "max_label_mib", 128.0),
    }
    local_only = is_local(arguments)

    async def sentence(request: Any, error: Exception) -> JSONResponse:
        text = _malformed(error) if isinstance(error, RequestValidationError) else str(getattr(error, "msg", error))
        text = " ".join(text.split())
        log_refusal(request.method, request.url.path, 400, text)
        return JSONResponse({"detail": text}, status_code=400)

    for kind in (*_kinds(), RequestValidationError):
        application.add_exception_handler(kind, sentence)
    application.user_middleware.insert(0, Middleware(Guard, local_only=local_only, origins=origins, **limits))
    application.middleware_stack = application.build_middleware_stack()
    if local_only and not listen_on_loopback():
        logger.warning("the server listens on every interface, and answers this machine alone; --host says where")


def listen_on_loopback() -> bool:
    """Let a uvicorn that was asked for every interface listen on loopback; whether it can still be done.

    uvicorn opens its socket after the application has started, on the `host` of its configuration, and hands the
    application neither of them: the attribute itself is changed, for the servers of this process. Where uvicorn shares
    one socket among worker processes, their parent has opened it already.
    """
    uvicorn = sys.modules.get("uvicorn.config")
    if uvicorn is None or multiprocessing.parent_process() is not None:
        return False
    uvicorn.Config.host = property(_local_host, _set_host)
    return True


def _local_host(config: Any) -> str:
    host = vars(config)["host"]
    return LOOPBACK if host in EVERYWHERE else host


def _set_host(config: Any, host: str) -> None:
    vars(config)["host"] = host


def _kinds() -> tuple[type[Exception], ...]:
    """The errors that are the request's."""
    if "monailabel" not in sys.modules:
        return (ValueError,)
    from monailabel.interfaces.exception import MONAILabelException

    return (ValueError, MONAILabelException)


def _malformed(error: Any) -> str:
    """What is wrong with a request that FastAPI cannot read, in one sentence: its first fault."""
    first = (error.errors() or [{}])[0]
    place = ".".join(str(part) for part in first.get("loc", ())[1:])
    where = "the body of the request" if not place else f"{place!r} of the request"
    advice = ""
    if "body" in first.get("loc", ()):
        advice = " (a JSON object is sent with Content-Type: application/json, a form as multipart/form-data)"
    return f"{where} cannot be read: {first.get('msg', 'it is malformed')}{advice}"[:500]


def _number(conf: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(conf.get(name, default))
    except ValueError:
        value = 0.0
    if not value > 0:
        raise CvmError(f"--conf {name} must be a number above 0, got {conf.get(name)!r}")
    return value
