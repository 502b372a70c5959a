"""Count the clicks that a segmentation needs, by a simulated annotator on a folder of images with masks.

    python benchmarks/clicks_needed.py FOLDER [--clicks 20] [--model RUN] [--seed 0]

FOLDER holds images/ and masks/ (0 is background). The annotator clicks once in the target and once outside it, each in
the middle of the class's largest region, and then always in the middle of the largest error. Printed for each
segmentation method: the mean Dice after 2, 5, 10 and 20 clicks, and NoC@80, @85, @90: the mean number of clicks until
that Dice, images that never reach it counted with the maximal number, and the fraction of images that reach it; each
mean with its 95 % interval over the images. A second table has the first method minus each other one.

The methods: pretrained features and the variational model (CVM); the same features, nearest point; GrabCut, a mixture
of colours for each class and a graph cut (OpenCV: `pip install 'cvm-monai[benchmarks]'`); a random forest on filters;
Grady's random walker. With --model RUN, the output folder of a training, with the settings recorded there: the
network's own features in the place of the pretrained ones, and the network corrected by the clicks as MONAI Label and
`annotate` do it. `centred_probe` has no features of its own.

With --places the first method is measured alone, by where the annotator clicks: `largest error` knows the mask,
`where next` clicks where `interactive.next_place.where_next` says (at random where u is certain), `random` anywhere.
Each click gets the class that the mask has there.
"""

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.inference import load_network, load_stain, network_input, working_factor
from cvm_monai.interactive import ColdFeatures, recorded_model, segment_clicks
from cvm_monai.interactive.cold_start import GRID
from cvm_monai.interactive.current import ActiveModel, recorded_knobs
from cvm_monai.interactive.next_place import where_next
from cvm_monai.interactive.segmenter import ClickSegmenter
from cvm_monai.interactive.window import Clicks, whole
from cvm_monai.metrics.significance import grouped_bootstrap
from cvm_monai.slides import open_image, read_image, read_mask
from cvm_monai.variational import centred, nearest_point_vote

Place = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[int, int] | None]
"""The mask, the probability and a generator, to the next click (row, column); None where nothing is left to correct."""

Answer = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""In-target and out-of-target clicks (N, 2), (row, column) of the image, to the probability (H, W) of the target."""
SHOWN, LEVELS = (2, 5, 10, 20), (0.80, 0.85, 0.90)

COARSER = 4
"""Image pixels to a pixel, in each direction, of the image that the random walker and GrabCut see."""

TOUCHED = 4
"""Radius of the disk around a click, in those pixels, that GrabCut takes as certain: it fits five colours to them."""

NO_OPENCV = "GrabCut is left out, for OpenCV is not installed: pip install 'cvm-monai[benchmarks]'"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clicks", type=int, default=20, help="most clicks on an image")
    parser.add_argument("--model", type=Path, metavar="RUN", help="output folder of a training")
    parser.add_argument("--images", type=int, help="only so many")
    parser.add_argument("--seed", type=int, default=0, help="of the random forest, and of clicks at random")
    parser.add_argument("--places", action="store_true", help="compare places of clicks in place of methods")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not find_spec("cv2"):
        print(NO_OPENCV, file=sys.stderr)
    try:
        trained = None if arguments.model is None else Trained(load(arguments.model))
    except CvmError as error:
        print(error, file=sys.stderr)
        return 2
    cases = _cases(arguments.folder)[: arguments.images]
    curves: dict[str, list[list[float]]] = {}
    for path, mask in cases:
        found = answers(read_image(path), seed=arguments.seed)
        if trained is not None:
            found |= trained.answers(path)
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
    print(*tables(curves, arguments.clicks), sep="\n")
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


def answers(image: np.ndarray, *, seed: int) -> dict[str, Answer]:
    """Each way of answering without a training, prepared for one image."""
    cold = ColdFeatures().eval()
    with torch.no_grad():
        features = cold(network_input(image)[None])[0].float()
    unit = centred(features, "image", parts=cold.parts)
    shape, grid = image.shape[:2], tuple(features.shape[-2:])

    def by_cvm(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        points = (_to_grid(part, shape, grid) for part in (inside, outside))
        found = segment_clicks(features, *points, parts=cold.parts, spacing=GRID)
        return _full(found.u if found.u is not None else np.zeros(grid), shape)

    def by_nearest(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        points = (_to_grid(part, shape, grid) for part in (inside, outside))
        return _full(nearest_point_vote(unit, *points, sharpness=100.0).numpy(), shape)

    ways = {f"{cold.kind} features + CVM": by_cvm, f"{cold.kind} features, nearest point": by_nearest}
    if find_spec("cv2"):
        ways["GrabCut"] = _grabcut(image, seed)
    return ways | {"random forest on filters": _forest(image, seed), "random walker": _walker(image)}


def load(model: Path) -> ActiveModel:
    """Load the network of a training's output folder and its recorded settings."""
    return ActiveModel(load_network(model), model, recorded_knobs(model), str(model), load_stain(model))


class Trained:
    """The answers of a trained network by the settings of its training."""

    def __init__(self, current: ActiveModel) -> None:
        self.current, self.segmenter = current, ClickSegmenter()
        self.pretrained = sum(ColdFeatures().parts)

    def answers(self, path: Path) -> dict[str, Answer]:
        """Each way of answering by the network, prepared for one image."""
        knobs = self.current.knobs
        with open_image(path) as image:
            shape, window = image.shape, whole(image.shape)
            known = image.mpp.value
            factor = working_factor(scale=knobs["scale"], mpp=knobs["mpp"], image_mpp=known, case_id=path.name)
            kept, _ = self.segmenter.features(image, window, current=self.current, factor=factor)
        own, grid = kept.values[: len(kept.values) - self.pretrained], tuple(kept.values.shape[-2:])
        probability = kept.probability(None)
        assert probability is not None

        def by_own(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
            points = (_to_grid(part, shape, grid) for part in (inside, outside))
            found = segment_clicks(own, *points, model=recorded_model(knobs), spacing=kept.spacing)
            return _full(found.u if found.u is not None else np.zeros(grid), shape)

        def corrected(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
            clicks = Clicks(*(tuple((x + 0.5, y + 0.5) for y, x in part.tolist()) for part in (inside, outside)))
            try:
                with open_image(path) as image:
                    found = self.segmenter(image, window, clicks, current=self.current, factor=factor).u
            except CvmError:  # the clicks cannot be told apart
                found = probability.numpy()
            return _full(found, shape)

        ways = {"network's features + CVM": by_own} if len(own) else {}
        return ways | {"trained network + CVM": corrected}


def _to_grid(points: np.ndarray, shape: tuple[int, ...], grid: tuple[int, ...]) -> np.ndarray:
    """(row, column) of an image of `shape` on a coarser grid over it."""
    return points * np.array(grid) // np.array(shape)


def _grabcut(image: np.ndarray, seed: int) -> Answer:
    """GrabCut (Rother, Kolmogorov and Blake 2004), five rounds, on an image of a quarter of the side.

    The disks around the clicks are certain; every other pixel starts as the class of the click nearest to it.
    """
    import cv2

    shape = image.shape[:2]
    height, width = shape[0] // COARSER, shape[1] // COARSER
    small = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)

    def answer(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        points = [_to_grid(part, shape, (height, width)) for part in (inside, outside)]
        away = [_distance(part, (height, width)) for part in points]
        kinds = np.where(away[0] < away[1], cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        for part, kind in zip(points, (cv2.GC_FGD, cv2.GC_BGD), strict=True):
            kinds[_distance(part, (height, width)) <= TOUCHED] = kind
        for part, kind in zip(points, (cv2.GC_FGD, cv2.GC_BGD), strict=True):
            kinds[tuple(part.T)] = kind  # where a disk of the other class covers a click
        cv2.setRNGSeed(seed)
        cv2.setNumThreads(1)
        cv2.grabCut(small, kinds, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
        return _full(np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD)), shape)

    return answer


def _distance(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Distance of each pixel of (H, W) from the nearest point."""
    free = np.ones(shape, dtype=bool)
    free[tuple(points.T)] = False
    return np.asarray(ndimage.distance_transform_edt(free))


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

    small = resize(image, (image.shape[0] // COARSER, image.shape[1] // COARSER), anti_aliasing=True)

    def answer(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        seeds = np.zeros(small.shape[:2], dtype=np.int32)
        for label, points in ((1, inside), (2, outside)):
            seeds[tuple(_to_grid(points, image.shape[:2], seeds.shape).T)] = label
        if len(np.unique(seeds)) < 3:  # two clicks in one small pixel
            return np.zeros(image.shape[:2])
        found = random_walker(small, seeds, beta=130, mode="cg_j", channel_axis=-1, return_full_prob=True)
        return _full(np.asarray(found[0]), image.shape[:2])

    return answer


def _full(found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    tensor = torch.as_tensor(np.ascontiguousarray(found), dtype=torch.float32)[None, None]
    return np.asarray(functional.interpolate(tensor, shape, mode="bilinear", align_corners=False)[0, 0].numpy())


def tables(curves: dict[str, list[list[float]]], most: int) -> list[str]:
    """Lines of both tables in markdown: what each method gives, and the first method minus each other one."""
    shown = [count for count in SHOWN if count <= most]
    heads = [*(f"Dice after {count}" for count in shown), *(f"NoC@{100 * level:.0f}" for level in LEVELS)]
    measured = {name: measure(np.array(found), most) for name, found in curves.items()}
    first = next(iter(measured))
    lines = ["| answer | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for name, found in curves.items():
        reached = [f", {100 * (np.array(found) >= level).any(axis=1).mean():.0f} %" for level in LEVELS]
        places, ends = [3] * len(shown) + [1] * len(LEVELS), [""] * len(shown) + reached
        cells = [_mean(*cell) + end for *cell, end in zip(measured[name].T, places, ends, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", f"| {first} minus | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for name in [name for name in curves if name != first]:
        apart = measured[first] - measured[name]
        cells = [_mean(*cell, sign="+") for cell in zip(apart.T, places, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def measure(scores: np.ndarray, most: int) -> np.ndarray:
    """Dice after `SHOWN` clicks, and clicks until each of `LEVELS`, of each image (N, values).

    Args:
        scores: (N, most - 1) Dice; the first column is after two clicks.
    """
    columns = [scores[:, count - 2] for count in SHOWN if count <= most]
    for level in LEVELS:
        reached = scores >= level
        columns.append(np.where(reached.any(axis=1), reached.argmax(axis=1) + 2, most))
    return np.stack(columns, axis=1)


def _mean(values: np.ndarray, digits: int, sign: str = "") -> str:
    """The mean over images, and its 95 % interval where there are several."""
    if len(values) < 2:
        return f"{values.mean():{sign}.{digits}f}"
    images = [str(number) for number in range(len(values))]
    found = grouped_bootstrap(values[:, None], images, lambda means: means[..., 0])
    return f"{found.mean:{sign}.{digits}f} ({found.low:{sign}.{digits}f} to {found.high:{sign}.{digits}f})"


def _cases(folder: Path) -> list[tuple[Path, np.ndarray]]:
    """Image file and mask of each case that has both classes."""
    masks = {path.stem: path for path in sorted((folder / "masks").glob("*"))}
    images = [path for path in sorted((folder / "images").glob("*")) if path.stem in masks]
    found = [(path, read_mask(masks[path.stem]) > 0) for path in images]
    found = [(path, mask) for path, mask in found if mask.any() and not mask.all()]
    if not found:
        sys.exit(f"{folder} holds no images/ with masks/ of both classes: give such a folder")
    return found


if __name__ == "__main__":
    sys.exit(main())
