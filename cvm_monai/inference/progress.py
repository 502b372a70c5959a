"""What is seen while images are segmented: one bar over them, or one line each where no terminal watches."""

import logging
import sys
import time
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

logger = logging.getLogger(__name__)


class ImageProgress:
    """Says of each image its size, the part of it that is target, and the seconds it took.

    Args:
        folder: where the predictions go, for the last line.
        enabled: a bar; by default where stderr is a terminal.
    """

    def __init__(self, *, folder: str, enabled: bool | None = None) -> None:
        self.folder = folder
        self.enabled = sys.stderr.isatty() if enabled is None else enabled

    def attach(self, engine: Engine) -> None:
        """Listen to the evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Engine) -> None:
        self._time = time.perf_counter()
        total = engine.state.epoch_length
        self._bar: Any = tqdm(total=total, desc="images", unit="image", dynamic_ncols=True) if self.enabled else None

    def __call__(self, engine: Engine) -> None:
        """Report the images of one iteration."""
        now = time.perf_counter()
        seconds, self._time = now - self._time, now
        batch: Any = engine.state.batch
        outputs: Any = engine.state.output
        for item, output in zip(batch, outputs, strict=True):
            height, width = output["mask"].shape[-2:]
            share = float((output["mask"] > 0).float().mean())
            what = "foreground" if len(output.get("pred", ())) > 1 else "target"
            text = f"{item['case_id']}, {width} x {height} px, {share:.1%} {what}, {seconds:.1f} s"
            if self._bar is not None:
                self._bar.set_postfix_str(text, refresh=False)
                self._bar.update()
            else:
                logger.info("image %d/%d: %s", engine.state.iteration, engine.state.epoch_length, text)

    def _complete(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
        logger.info("%d images segmented into %s", engine.state.iteration, self.folder)
