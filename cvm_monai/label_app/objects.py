"""The JSON in a form of a request must be an object: MONAI Label 0.8.5 takes any, and fails with status 500."""

import json
from typing import Any

from cvm_monai.errors import CvmError


def read_object(text: str | bytes) -> dict[str, Any]:
    """The object of a JSON text; `null` is an empty one.

    Raises:
        CvmError: anything else.
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
    """The module `json` whose `loads` is `read_object`."""

    loads = staticmethod(read_object)

    def __getattr__(self, name: str) -> Any:
        return getattr(json, name)


def secure_forms(*endpoints: Any) -> None:
    """Let modules of MONAI Label's end points read JSON objects alone, and refuse to send a file that was not made.

    Args:
        endpoints: `monailabel.endpoints.infer`, `wsi_infer` and `datastore`.
    """
    for module in endpoints:
        module.json = ObjectsAlone()
        send = getattr(module, "send_response", None)
        if send is not None and not hasattr(send, "checks_files"):
            module.send_response = _checked(send)


def _checked(send: Any) -> Any:
    """A sender of results that refuses in a sentence where the file that is asked for was not made."""

    def checked(datastore: Any, result: dict[str, Any], output: Any, background_tasks: Any) -> Any:
        if output == "image" and not (result.get("file") or result.get("label")):
            raise CvmError("output=image asks for a file: leave out result_write_to_file, or ask for output=json")
        return send(datastore, result, output, background_tasks)

    checked.checks_files = True  # type: ignore[attr-defined]
    return checked
