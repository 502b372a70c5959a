"""Anti-aliased nuclei with chromatin texture, drawn many at a time."""

from dataclasses import dataclass, fields

import numpy as np

__all__ = ["Nuclei", "draw_nuclei"]

_CHUNK = 2048


@dataclass(frozen=True)
class Nuclei:
    """Arrays with one entry for each of n nuclei.

    ``centre`` (n, 2): row and column; ``length``, ``width``: the full axes in pixels; ``angle``: of the long axis, in
    radians from the column axis towards the rows; ``density``: the haematoxylin inside; ``rim``: how much darker the
    membrane is than the inside (0 = evenly dark, 1 = vesicular); ``nucleolus``: the haematoxylin of the nucleolus;
    ``lobing``: how far the outline departs from an ellipse, relative to the radius.
    """

    centre: np.ndarray
    length: np.ndarray
    width: np.ndarray
    angle: np.ndarray
    density: np.ndarray
    rim: np.ndarray
    nucleolus: np.ndarray
    lobing: np.ndarray

    def __len__(self) -> int:
        return len(self.centre)

    def part(self, start: int, stop: int) -> "Nuclei":
        """Nuclei ``start`` to ``stop - 1``."""
        return Nuclei(*(getattr(self, field.name)[start:stop] for field in fields(self)))


def draw_nuclei(nuclei: Nuclei, chromatin: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coverage in [0, 1] and haematoxylin of all nuclei, each (H, W); where two overlap, the larger value counts.

    ``chromatin`` (H, W) is unit-variance noise that mottles the inside.
    """
    shape = chromatin.shape
    cover, amount = np.zeros(shape), np.zeros(shape)
    for start in range(0, len(nuclei), _CHUNK):
        _stamp(nuclei.part(start, start + _CHUNK), chromatin, cover, amount, rng)
    return cover, amount


def _stamp(
    nuclei: Nuclei, chromatin: np.ndarray, cover: np.ndarray, amount: np.ndarray, rng: np.random.Generator
) -> None:
    """Draws one chunk of nuclei into ``cover`` and ``amount``, in patches of one common size."""
    reach = int(np.ceil(0.5 * nuclei.length.max() * 1.3)) + 2
    offsets = np.arange(-reach, reach + 1)
    exact = nuclei.centre.T[:, :, None, None]
    whole = np.floor(exact).astype(int)
    rows, columns = np.broadcast_arrays(whole[0] + offsets[:, None], whole[1] + offsets)
    down, right = rows - exact[0], columns - exact[1]

    inside = (rows >= 0) & (rows < cover.shape[0]) & (columns >= 0) & (columns < cover.shape[1])
    depth = _depth(nuclei, down, right, rng)
    near = inside & (depth > -1)
    row, column, depth = rows[near], columns[near], depth[near]
    each = np.broadcast_to(np.arange(len(nuclei))[:, None, None], near.shape)[near]

    coverage = np.clip(depth + 0.5, 0, 1)
    spot = rng.uniform(-0.22, 0.22, (2, len(nuclei))) * nuclei.width
    distance2 = (down[near] - spot[0][each]) ** 2 + (right[near] - spot[1][each]) ** 2
    membrane = np.exp(-(((depth - 0.6) / 0.8) ** 2))
    tone = 1 + nuclei.rim[each] * (0.75 * membrane - 0.42) + 0.16 * chromatin[row, column]
    inner = nuclei.density[each] * tone + nuclei.nucleolus[each] * np.exp(-distance2 / 1.3)
    np.maximum.at(cover, (row, column), coverage)
    np.maximum.at(amount, (row, column), coverage * np.maximum(inner, 0.05))


def _depth(nuclei: Nuclei, down: np.ndarray, right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """About how many pixels each pixel (n, P, P) lies inside the outline of its nucleus; negative outside."""
    cosine, sine = np.cos(nuclei.angle)[:, None, None], np.sin(nuclei.angle)[:, None, None]
    along = (right * cosine + down * sine) / (0.5 * nuclei.length[:, None, None])
    across = (down * cosine - right * sine) / (0.5 * nuclei.width[:, None, None])
    polar = np.arctan2(across, along)
    phases = rng.uniform(0, 2 * np.pi, (2, len(nuclei), 1, 1))
    lobes = np.cos(2 * polar + phases[0]) + 0.7 * np.cos(3 * polar + phases[1])
    radius = np.hypot(along, across)
    relative = 1 + nuclei.lobing[:, None, None] * lobes - radius
    slope = np.hypot(along / (0.5 * nuclei.length[:, None, None]), across / (0.5 * nuclei.width[:, None, None]))
    return relative * np.maximum(radius, 1e-6) / np.maximum(slope, 1e-6)
