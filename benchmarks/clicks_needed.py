"""Count the clicks that a segmentation needs, by a simulated annotator on a folder of images with masks.

    python benchmarks/clicks_needed.py FOLDER [--clicks 20] [--model RUN] [--seed 0]

FOLDER holds images/ and masks/ (0 is background). The annotator clicks once in the target and once outside it, each in
the middle of the class's largest region, and then always in the middle of the largest error. Printed for each
segmentation method: the mean Dice after 2, 5, 10 and 20 clicks, and NoC@80, @85, @90: the mean number of clicks until
    that Dice,
images that never reach it counted with the maximal number, and the fraction of images that reach it.

With --places the first method is measured alone, by where the annotator clicks: `largest error` knows the mask,
`where next` clicks where `interactive.next_place.where_next` says (at random where u is certain), `random` anywhere.
Each click gets the class that the mask has there.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from cvm_monai.inference import load_network, network_input
from cvm_monai.interactive import ColdFeatures, recorded_model, segment_clicks
from cvm_monai.interactive.cold_start import GRID
from cvm_monai.interactive.next_place import where_next
from cvm_monai.slides import read_image, read_mask
from cvm_monai.variational import centred, nearest_point_vote

Place = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[int, int] | None]
"""The mask, the probability and a generator, to the next click (row, column); None where nothing is left to correct."""

Answer = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""In-target and out-of-target clicks (N, 2), (row, column) of the image, to the probability (H, W) of the target."""
SHOWN, LEVELS = (2, 5, 10, 20), (0.80, 0.85, 0.90)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clicks", type=int, default=20, help="most clicks on an image")
    parser.add_argument("--model", type=Path, help="output folder of a training: its network's clicks too")
    parser.add_argument("--images", type=int, help="only so many")
    parser.add_argument("--seed", type=int, default=0, help="of the random forest, and of clicks at random")
    parser.add_argument("--places", action="store_true", help="compare places of clicks in place of methods")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = _cases(arguments.folder)[: arguments.images]
    curves: dict[str, list[list[float]]] = {}
    for image, mask in cases:
        found = answers(image, model=arguments.model, seed=arguments.seed)
        if arguments.places:
            answer = found["trained network + CVM"] if arguments.model else next(iter(found.values()))
            for name, place in PLACES.items():
                curve = annotate(mask, answer, most=arguments.clicks, place=place, seed=arguments.seed)
                curves.setdefault(name, []).append(curve)
            continue
        for name, answer in found.items():
            curves.setdefault(name, []).append(annotate(mask, answer, most=arguments.clicks))
    where = (
        "by the places of the clicks" if arguments.places else "the annotator clicks in the middle of the largest error"
    )
    print(f"{len(cases)} images of {arguments.folder.name}, {where}\n")
    heads = [f"Dice after {count}" for count in SHOWN if count <= arguments.clicks]
    print("| answer | " + " | ".join([*heads, *(f"NoC@{100 * level:.0f}" for level in LEVELS)]) + " |")
    print("|---" * (1 + len(heads) + len(LEVELS)) + "|")
    for name, found in curves.items():
        print(f"| {name} | " + " | ".join(_row(found, arguments.clicks)) + " |")
    return 0


def at_largest_error(mask: np.ndarray, u: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """The middle of the largest error; None where nothing is wrong."""
    del rng
    found = u > 0.5
    wrong = max((mask & ~found, found & ~mask), key=lambda error: _largest(error)[1])
    return middle(wrong) if wrong.any() else None


def at_random(mask: np.ndarray, u: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """Any pixel."""
    del u
    return int(rng.integers(mask.shape[0])), int(rng.integers(mask.shape[1]))


def at_where_next(mask: np.ndarray, u: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """Where `where_next` says; at random where it says nothing."""
    found = where_next(u)
    return at_random(mask, u, rng) if found is None else (found.row, found.column)


PLACES: dict[str, Place] = {"largest error": at_largest_error, "where next": at_where_next, "random": at_random}


def annotate(
    mask: np.ndarray, answer: Answer, *, most: int, place: Place = at_largest_error, seed: int = 0
) -> list[float]:
    """Dice after each click from the second on; it stops where `place` finds none, or one that was clicked already."""
    rng = np.random.default_rng(seed)
    clicks: dict[bool, list[tuple[int, int]]] = {True: [middle(mask)], False: [middle(~mask)]}
    scores: list[float] = []
    while len(clicks[True]) + len(clicks[False]) <= most:
        u = answer(np.array(clicks[True]), np.array(clicks[False]))
        found = u > 0.5
        scores.append(2 * float((found & mask).sum()) / max(1.0, float(found.sum() + mask.sum())))
        following = place(mask, u, rng)
        if following is None or following in clicks[bool(mask[following])]:
            break
        clicks[bool(mask[following])].append(following)
    return scores + [scores[-1]] * (most - 1 - len(scores))


def middle(region: np.ndarray) -> tuple[int, int]:
    """The pixel of the largest connected component that is farthest from its border."""
    part = np.pad(_largest(region)[0], 1)
    row, column = np.unravel_index(int(ndimage.distance_transform_edt(part).argmax()), part.shape)
    return int(row) - 1, int(column) - 1


def _largest(region: np.ndarray) -> tuple[np.ndarray, int]:
    labels, count = ndimage.label(region)
    if not count:
        return region, 0
    sizes = np.bincount(labels.ravel())[1:]
    return labels == sizes.argmax() + 1, int(sizes.max())


def answers(image: np.ndarray, *, model: Path | None, seed: int) -> dict[str, Answer]:
    """Each way of answering, prepared for one image."""
    cold = ColdFeatures().eval()
    with torch.no_grad():
        inputs = network_input(image)[None]
        features = cold(inputs)[0].float()
    unit = centred(features, "image", parts=cold.parts)
    shape = image.shape[:2]

    def on_grid(points: np.ndarray) -> np.ndarray:
        return points * np.array(features.shape[-2:]) // np.array(shape)

    def by_cvm(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        found = segment_clicks(features, on_grid(inside), on_grid(outside), parts=cold.parts, spacing=GRID)
        return _full(found.u if found.u is not None else np.zeros(features.shape[-2:]), shape)

    def by_nearest(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        return _full(nearest_point_vote(unit, on_grid(inside), on_grid(outside), sharpness=100.0).numpy(), shape)

    ways = {f"{cold.kind} features + CVM": by_cvm, f"{cold.kind} features, nearest point": by_nearest}
    ways |= {"random forest on filters": _forest(image, seed), "random walker": _walker(image)}
    if model is not None:
        ways["trained network + CVM"] = _trained(inputs, shape, cold, model)
    return ways


def _trained(inputs: torch.Tensor, shape: tuple[int, ...], cold: ColdFeatures, model: Path) -> Answer:
    """The network of a training, corrected by the clicks."""
    import json

    network = load_network(model)
    knobs = json.loads((model / "run.json").read_text())["knobs"]
    scaled = functional.interpolate(inputs, scale_factor=float(knobs["scale"]), mode="area")
    with torch.no_grad():
        logits = network(scaled)
        features = cold(inputs)[0].float()
        probability = functional.interpolate(
            torch.softmax(logits, dim=1)[:, 1:].sum(dim=1, keepdim=True), features.shape[-2:], mode="bilinear"
        )[0, 0]

    def answer(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        points = (part * np.array(features.shape[-2:]) // np.array(shape) for part in (inside, outside))
        spacing = scaled.shape[-1] / features.shape[-1]
        found = segment_clicks(
            features, *points, model=recorded_model(knobs), parts=cold.parts, probability=probability, spacing=spacing
        )
        return _full(found.u if found.u is not None else probability.numpy(), shape)

    return answer


def _forest(image: np.ndarray, seed: int) -> Answer:
    """A pixel classifier of the kind of QuPath and ilastik."""
    from skimage.feature import multiscale_basic_features
    from sklearn.ensemble import RandomForestClassifier

    values = multiscale_basic_features(image, channel_axis=-1, sigma_min=1, sigma_max=8)

    def answer(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        points = np.concatenate([inside, outside])
        forest = RandomForestClassifier(50, random_state=seed)
        forest.fit(values[points[:, 0], points[:, 1]], np.repeat([1, 0], [len(inside), len(outside)]))
        found: np.ndarray = forest.predict_proba(values.reshape(-1, values.shape[-1]))[:, 1].reshape(image.shape[:2])
        return found

    return answer


def _walker(image: np.ndarray) -> Answer:
    """Grady's random walker between the clicks, on an image of a quarter of the side."""
    from skimage.segmentation import random_walker
    from skimage.transform import resize

    small = resize(image, (image.shape[0] // 4, image.shape[1] // 4), anti_aliasing=True)

    def answer(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        seeds = np.zeros(small.shape[:2], dtype=np.int32)
        for label, points in ((1, inside), (2, outside)):
            seeds[tuple((points * np.array(seeds.shape) // np.array(image.shape[:2])).T)] = label
        if len(np.unique(seeds)) < 3:  # two clicks in one small pixel
            return np.zeros(image.shape[:2])
        found = random_walker(small, seeds, beta=130, mode="cg_j", channel_axis=-1, return_full_prob=True)
        return _full(np.asarray(found[0]), image.shape[:2])

    return answer


def _full(found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    tensor = torch.as_tensor(np.ascontiguousarray(found), dtype=torch.float32)[None, None]
    return np.asarray(functional.interpolate(tensor, shape, mode="bilinear", align_corners=False)[0, 0].numpy())


def _row(curves: list[list[float]], most: int) -> list[str]:
    scores = np.array(curves)  # the first column is after two clicks
    cells = [f"{scores[:, count - 2].mean():.3f}" for count in SHOWN if count <= most]
    for level in LEVELS:
        reached = scores >= level
        needed = np.where(reached.any(axis=1), reached.argmax(axis=1) + 2, most)
        cells.append(f"{needed.mean():.1f} ({100 * reached.any(axis=1).mean():.0f} %)")
    return cells


def _cases(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Image and mask of each case that has both classes."""
    masks = {path.stem: path for path in sorted((folder / "masks").glob("*"))}
    images = [path for path in sorted((folder / "images").glob("*")) if path.stem in masks]
    found = [(read_image(path), read_mask(masks[path.stem]) > 0) for path in images]
    found = [(image, mask) for image, mask in found if mask.any() and not mask.all()]
    if not found:
        sys.exit(f"{folder} holds no images/ with masks/ of both classes: give such a folder")
    return found


if __name__ == "__main__":
    sys.exit(main())
