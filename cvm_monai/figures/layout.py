"""Layout of a grid of image panels, in inches: tiles of equal width, each row as high as its image."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from cvm_monai.figures import palette

MARGIN, GAP, HEAD, CAPTION, FOOT = 0.12, 0.07, 0.26, 0.24, 0.42
LOWEST, HIGHEST = 0.25, 1.5
"""Limits of a row's height / width; an image beyond them is fitted in, with margins at its sides."""

Box = tuple[float, float, float, float]


class Grid:
    """Computes the boxes of rows of tiles, with titles above, a caption under each row and room for keys below.

    Args:
        sizes: (width, height) of each row's image in pixels.
        columns: tiles per row.
        tile: their width in inches.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], *, columns: int, tile: float) -> None:
        self.columns, self.width = columns, tile
        self.heights = [tile * min(max(height / width, LOWEST), HIGHEST) for width, height in sizes]
        self.size = (
            2 * MARGIN + columns * tile + (columns - 1) * GAP,
            HEAD + sum(self.heights) + CAPTION * len(sizes) + FOOT,
        )

    def tile(self, row: int, column: int, size: tuple[int, int]) -> Box:
        """Box of an image of (width, height), centred in its tile: left, bottom, width, height, as figure fractions."""
        scale = min(self.width / size[0], self.heights[row] / size[1])
        width, height = size[0] * scale, size[1] * scale
        left = self._left(column) + (self.width - width) / 2
        return self._box(left, self._bottom(row) + (self.heights[row] - height) / 2, width, height)

    def foot(self, first: int, last: int | None = None) -> Box:
        """Box for a key below the columns from first to last."""
        left, right = self._left(first), self._left(first if last is None else last) + self.width
        return self._box(left, 0.04, right - left, FOOT - 0.04)

    def titles(self, figure: Figure, names: Sequence[str], *, size: float = palette.TITLE_SIZE) -> None:
        """Write the columns' names above the first row."""
        for column, name in enumerate(names):
            x, y = self._left(column) + self.width / 2, self.size[1] - HEAD + 0.07
            self._text(figure, x, y, name, ha="center", fontsize=size, color=palette.INK)

    def caption(self, figure: Figure, row: int, case_id: str, dice: float | None) -> None:
        """Write a case's name and Dice under its row."""
        y = self._bottom(row) - 0.14
        self._text(figure, MARGIN, y, case_id, ha="left", fontsize=palette.TEXT_SIZE, color=palette.INK)
        if dice is not None:
            score = "Dice undefined" if dice != dice else f"Dice {dice:.3f}"
            right = self.size[0] - MARGIN
            self._text(figure, right, y, score, ha="right", fontsize=palette.TEXT_SIZE, color=palette.INK)

    def note(self, figure: Figure, row: int, column: int, text: str) -> None:
        """Write a short text under one tile, in the line of its row's caption."""
        x, y = self._left(column) + self.width / 2, self._bottom(row) - 0.14
        self._text(figure, x, y, text, ha="center", fontsize=palette.SMALL_SIZE, color=palette.INK)

    def _text(self, figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / self.size[0], y / self.size[1], text, va="baseline", parse_math=False, **style)

    def _left(self, column: int) -> float:
        return MARGIN + column * (self.width + GAP)

    def _bottom(self, row: int) -> float:
        return self.size[1] - HEAD - sum(self.heights[: row + 1]) - CAPTION * row

    def _box(self, left: float, bottom: float, width: float, height: float) -> Box:
        return left / self.size[0], bottom / self.size[1], width / self.size[0], height / self.size[1]
