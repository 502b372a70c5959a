"""The Ignite handler that writes `run.json` for the output of an evaluation or an inference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from cvm_monai.provenance import OutputRecord


class OutputRecorder:
    """Records command, knobs, versions, commit, hashes, seed, host and times when the engine has completed.

    Args:
        kind: of the output, such as `inference`.
        folder: of the output; gets `run.json`, or `run_KIND.json` if it holds another command's `run.json`.
        knobs: name and value of each setting.
        files: files whose SHA-256 is recorded: weights, data list.
        records: cases whose images' SHA-256 is recorded too.
        seed: of all random numbers; None: the command uses none.
    """

    def __init__(
        self,
        *,
        kind: str,
        folder: str,
        knobs: Mapping[str, Any],
        files: Sequence[str] = (),
        records: Sequence[Mapping[str, Any]] = (),
        seed: int | None = None,
    ) -> None:
        self.kind, self.folder, self.knobs, self.seed = kind, Path(folder), knobs, seed
        self.files = {Path(file).name: Path(file) for file in files}
        self.files |= {str(record["image"]): Path(record["image"]) for record in records}

    def attach(self, engine: Engine) -> None:
        """Add the handlers to the evaluator; call it after attaching the handlers that write the output."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Engine) -> None:
        del engine
        self._record = OutputRecord(self.kind, configuration=self.knobs, seed=self.seed)

    def _complete(self, engine: Engine) -> None:
        del engine
        self._record.write(self.folder, data=self.files)
