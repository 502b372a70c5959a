"""`run.json` of a slide: what was asked, every attempt and how it ended, what was found."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cvm_monai.files import read_record, write_json
from cvm_monai.inference.whole_slide.map_file import difference, plain_settings
from cvm_monai.provenance import begun, now, software

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

FILE = "run.json"


@dataclass(frozen=True)
class Settings:
    """All that decides a slide's results.

    Attributes:
        prediction: what decides the probability map.
        results: what decides the files made from it.
    """

    prediction: Mapping[str, Any]
    results: Mapping[str, Any]


class SlideRecord:
    """The record in a slide's folder.

    Args:
        folder: of the slide's results.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.known = _read(self.path)

    @property
    def finished(self) -> bool:
        """Whether all results are there."""
        return self.known.get("status") == "FINISHED"

    def conflict(self, settings: Settings) -> str:
        """How a finished slide's settings differ from the asked ones, in words; empty where they do not."""
        if not self.finished:
            return ""
        before: Mapping[str, Any] = self.known.get("settings", {})
        return difference(
            {**before.get("prediction", {}), **before.get("results", {})},
            plain_settings({**settings.prediction, **settings.results}),
        )

    def begin(self, slide: Mapping[str, Any], settings: Settings, *, rows_done: int) -> None:
        """A new attempt; one that never ended was killed."""
        attempts = list(self.known.get("attempts", []))
        if attempts and attempts[-1].get("status") == "RUNNING":
            attempts[-1] = {**attempts[-1], "status": "KILLED"}
        attempts.append(
            {
                "status": "RUNNING",
                **begun(),
                "process": os.getpid(),
                "rows_already_done": rows_done,
            }
        )
        asked = {"prediction": dict(settings.prediction), "results": dict(settings.results)}
        self._write({"status": "RUNNING", "slide": dict(slide), "settings": asked, **software(), "attempts": attempts})

    def end(self, status: Status, *, error: str | None = None, **found: Any) -> None:
        """Close the attempt, with its error or what was found."""
        attempts = list(self.known["attempts"])
        attempts[-1] = {**attempts[-1], "status": status, "ended": now()}
        if error is not None:
            attempts[-1]["error"] = error
        self._write({**self.known, "status": status, "attempts": attempts, **found})

    def _write(self, content: dict[str, Any]) -> None:
        write_json(self.path, content)
        self.known = content


def _read(path: Path) -> dict[str, Any]:
    """What is recorded; nothing where there is no record that can be read."""
    return read_record(path) or {}
