"""What is seen while slides are predicted: one bar over all tiles with the time left, or a line now and then."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tqdm import tqdm

EVERY = 60.0
"""Seconds between two lines where no terminal watches."""


class TileProgress:
    """Counts tiles with tissue; of slides not yet looked at it expects the share of tissue of those before.

    Args:
        waiting: tiles, glass included, of each slide to come, by name.
        enabled: a bar; None: where stderr is a terminal.
        say: for lines where there is no bar.
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
        """Tiles with tissue, as far as is known."""
        known = self._tissue + self._glass
        share = self._tissue / known if known else 1.0
        return self._tissue + round(share * sum(self._waiting.values()))

    def start(self, name: str, tiles: int, done: int) -> None:
        """A slide of which `tiles` have tissue, and `done` of these are done already."""
        self._glass += max(0, self._waiting.pop(name, tiles) - tiles)
        self._tissue += tiles
        self._name, self._slide_done, self._slide_tiles = name, 0, tiles
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(name, refresh=False)
        self._resumed += done
        self._advance(done)

    def drop(self, name: str) -> None:
        """A slide that is not predicted after all."""
        self._waiting.pop(name, None)

    def tiles(self, count: int) -> None:
        """So many more are done."""
        self._advance(count)
        now = time.perf_counter()
        if self._bar is None and now - self._told >= EVERY:
            self._told = now
            left = (self.total - self.done) * (now - self._began) / max(1, self.done - self._resumed)
            self._say(
                f"{self._name}: {self._slide_done} of {self._slide_tiles} tiles; {_span(left)} left for all slides"
            )

    def line(self, text: str) -> None:
        """A line above the bar, or by itself."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            self._say(text)

    def close(self) -> None:
        """The end."""
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
