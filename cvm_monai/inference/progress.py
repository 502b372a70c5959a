"""Show the progress of a prediction: a bar over images or tiles, or lines where stderr is not a terminal."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

logger = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two lines where stderr is not a terminal."""


class ImageProgress:
    """Report of each image its size, the fraction of target, and the seconds it took.

    Args:
        folder: where the predictions go, for the last line.
        enabled: show a bar; by default where stderr is a terminal.
    """

    def __init__(self, *, folder: str, enabled: bool | None = None) -> None:
        self.folder = folder
        self.enabled = sys.stderr.isatty() if enabled is None else enabled

    def attach(self, engine: Engine) -> None:
        """Register the handlers on the evaluator."""
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
            part = float((output["mask"] > 0).float().mean())
            what = "foreground" if len(output.get("pred", ())) > 1 else "target"
            text = f"{item['case_id']}, {width} x {height} px, {part:.1%} {what}, {seconds:.1f} s"
            if self._bar is not None:
                self._bar.set_postfix_str(text, refresh=False)
                self._bar.update()
            else:
                logger.info("image %d/%d: %s", engine.state.iteration, engine.state.epoch_length, text)

    def _complete(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
        logger.info("%d images segmented into %s", engine.state.iteration, self.folder)


class TileProgress:
    """Count tiles with tissue; for slides not yet opened, extrapolate from the fraction of tissue of the earlier ones.

    Args:
        waiting: number of tiles, glass included, of each slide to come, by name.
        enabled: show a bar; None: where stderr is a terminal.
        say: prints lines where there is no bar.
    """

    def __init__(
        self, waiting: Mapping[str, int], *, enabled: bool | None = None, say: Callable[[str], None] = print
    ) -> None:
        self._waiting, self._say = dict(waiting), say
        self._enabled = sys.stderr.isatty() if enabled is None else enabled
        self._tissue = self._glass = self.done = self._resumed = 0
        self._name, self._slide_done, self._slide_tiles = "", 0, 0
        self._began = self._told = time.perf_counter()
        self._bar: Any = None
        if self._enabled:
            self._bar = tqdm(total=self.total, desc="slides", unit="tile", dynamic_ncols=True)

    @property
    def total(self) -> int:
        """Expected number of tiles with tissue."""
        known = self._tissue + self._glass
        part = self._tissue / known if known else 1.0
        return self._tissue + round(part * sum(self._waiting.values()))

    def start(self, name: str, tiles: int, done: int) -> None:
        """Start a slide of which `tiles` have tissue, and `done` of these are done already."""
        self._glass += max(0, self._waiting.pop(name, tiles) - tiles)
        self._tissue += tiles
        self._name, self._slide_done, self._slide_tiles = name, 0, tiles
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(name, refresh=False)
        self._resumed += done
        self._advance(done)

    def drop(self, name: str) -> None:
        """Remove a slide that is not predicted after all."""
        self._waiting.pop(name, None)

    def tiles(self, count: int) -> None:
        """Advance by a number of finished tiles."""
        self._advance(count)
        now = time.perf_counter()
        if self._bar is None and now - self._told >= EVERY:
            self._told = now
            left = (self.total - self.done) * (now - self._began) / max(1, self.done - self._resumed)
            self._say(
                f"{self._name}: {self._slide_done} of {self._slide_tiles} tiles; {_span(left)} left for all slides"
            )

    def line(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            self._say(text)

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _advance(self, count: int) -> None:
        self.done += count
        self._slide_done += count
        if self._bar is not None:
            self._bar.update(count)


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
