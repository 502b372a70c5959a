"""Compare a training of the bundle with pixel classifiers and a random walker on the same points.

    python benchmarks/alternatives.py RUN [RUN ...]

RUN is the output folder of an evaluated training (`run.json`, `datalist.json`, `evaluation/`); several are its seeds or
folds. Each alternative gets the training's points, without tuning; images are at the training's working scale, except
that frozen features use their own scale, which suits them better. Printed:

1. test images, without points: the trained network, a random forest on multi-scale filters (as in QuPath and
   ilastik), ridge regression on optical density at four scales, and a linear probe on frozen features, each fitted to
   the points of all training images;
2. training images that have masks, each from its own points only: u, the variational pseudo-label of the training, and
   Grady's random walker, the random forest, and the ridge regression on density.

Each line is the mean Dice, and the method of the first line minus this one with its 95 % interval over patients.
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.feature import multiscale_basic_features
from skimage.segmentation import random_walker
from skimage.transform import resize
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cvm_monai.annotations import TARGET, first_pairs, read_annotations
from cvm_monai.data.datalist import Case, read_datalist
from cvm_monai.data.folds import split
from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.data.transforms import resize_image
from cvm_monai.inference import network_input
from cvm_monai.interactive import ColdFeatures
from cvm_monai.metrics import dice_score
from cvm_monai.metrics.significance import grouped_bootstrap
from cvm_monai.networks.density import DensityFeatures
from cvm_monai.slides import read_image, read_mask
from cvm_monai.variational import centred

Scores = dict[str, dict[str, list[float]]]
"""Method to case id to its Dice in each run."""


class Image:
    """One case at the training's working scale: its filters, points and mask."""

    def __init__(self, case: Case, knobs: dict[str, Any]) -> None:
        self.case = case
        self.full = read_image(case.image)
        height, width = self.full.shape[:2]
        scale = float(knobs["scale"])
        self.pixels = resize_image(self.full, (round(height * scale), round(width * scale)))
        self.mask = None if case.mask is None else read_mask(case.mask) > 0
        found = first_pairs(read_annotations(case.points).points, int(knobs["pairs"])) if case.points else ()
        ratio = np.array(self.pixels.shape[:2]) / (height, width)
        self.points = np.array([(point.y, point.x) for point in found]).reshape(-1, 2) * ratio
        self.labels = np.array([point.label == TARGET for point in found], dtype=int)

    def at_points(self, features: np.ndarray) -> np.ndarray:
        """(N, C) of features (h, w, C) on any grid over the image."""
        places = np.floor(self.points * np.array(features.shape[:2]) / np.array(self.pixels.shape[:2])).astype(int)
        return np.asarray(features[tuple(np.minimum(places, np.array(features.shape[:2]) - 1).T)])

    def dice(self, probability: np.ndarray) -> float:
        """Of a probability on any grid over the image, resized bilinearly to its mask."""
        assert self.mask is not None
        full = resize(probability, self.mask.shape, order=1, mode="edge", anti_aliasing=False)
        return dice_score(full > 0.5, self.mask)


def filters(image: Image) -> np.ndarray:
    """Intensity, edges and texture at four scales (h, w, C), the features of QuPath's and ilastik's classifiers."""
    found: np.ndarray = multiscale_basic_features(image.pixels, channel_axis=-1, sigma_min=1, sigma_max=8)
    return found


def density(image: Image) -> np.ndarray:
    """Mean and deviation of the optical density at four scales, (h, w, 24)."""
    return np.asarray(DensityFeatures()(network_input(image.pixels)[None])[0].permute(1, 2, 0).numpy())


def frozen(image: Image) -> np.ndarray:
    """Pretrained features of the image at its own scale, the image's mean taken off, (H / 4, W / 4, C)."""
    cold = ColdFeatures().eval()
    with torch.no_grad():
        features = cold(network_input(image.full)[None])[0].float()
    return np.asarray(centred(features, "image", parts=cold.parts).permute(1, 2, 0).numpy())


def forest() -> Any:
    return RandomForestClassifier(100, random_state=0)


def ridge() -> Any:
    return make_pipeline(StandardScaler(), RidgeClassifier())


def probe() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


CLASSIFIERS: dict[str, tuple[Callable[[Image], np.ndarray], Callable[[], Any]]] = {
    "random forest on filters": (filters, forest),
    "ridge on optical density": (density, ridge),
    "linear probe on frozen features": (frozen, probe),
}


def target_map(classifier: Any, features: np.ndarray) -> np.ndarray:
    """1 where the classifier says target, as a map (h, w); a probability where it gives one."""
    values = features.reshape(-1, features.shape[-1])
    found = (
        classifier.predict_proba(values)[:, 1] if hasattr(classifier, "predict_proba") else classifier.predict(values)
    )
    return np.asarray(found, dtype=float).reshape(features.shape[:2])


def walker(image: Image) -> np.ndarray | None:
    """Grady's random walker between the points; None where two classes share each pixel."""
    seeds = np.zeros(image.pixels.shape[:2], dtype=np.int32)
    seeds[tuple(np.floor(image.points).astype(int).T)] = 2 - image.labels
    if len(np.unique(seeds)) < 3:
        return None
    found = random_walker(image.pixels, seeds, beta=130, mode="cg_j", channel_axis=-1, return_full_prob=True)
    return np.asarray(found[0])


def on_test_images(run: Path, train: list[Image], test: list[Image], scores: Scores) -> None:
    """Fit each classifier to all training points, and score it on the images without clicks."""
    with (run / "evaluation" / "per_case.csv").open(newline="") as file:
        network = {row["case_id"]: float(row["dice"] or "nan") for row in csv.DictReader(file)}
    for image in test:
        scores.setdefault("trained network", {}).setdefault(image.case.case_id, []).append(network[image.case.case_id])
    for name, (features, classifier) in CLASSIFIERS.items():
        values = np.concatenate([image.at_points(features(image)) for image in train if len(image.labels)])
        fitted = classifier().fit(values, np.concatenate([image.labels for image in train if len(image.labels)]))
        for image in test:
            found = image.dice(target_map(fitted, features(image)))
            scores.setdefault(name, {}).setdefault(image.case.case_id, []).append(found)


def on_training_images(run: Path, train: list[Image], scores: Scores) -> None:
    """Score u and what each image's own points give otherwise, where all of them give something."""
    store = PseudoLabelStore(run / "pseudo_labels")
    for image in train:
        u = store.get(image.case.case_id)
        if u is None or image.mask is None or len(set(image.labels)) < 2:
            continue
        walked = walker(image)
        if walked is None:
            continue
        found = {"u": np.asarray(u), "random walker": walked}
        for name in ("random forest on filters", "ridge on optical density"):
            features, classifier = CLASSIFIERS[name]
            values = features(image)
            found[name] = target_map(classifier().fit(image.at_points(values), image.labels), values)
        for name, probability in found.items():
            scores.setdefault(name, {}).setdefault(image.case.case_id, []).append(image.dice(probability))


def lines(scores: Scores, patients: dict[str, str]) -> Iterator[str]:
    """A markdown table; images without a defined Dice are left out of all methods."""
    means = {name: {case: float(np.mean(values)) for case, values in found.items()} for name, found in scores.items()}
    first = next(iter(means))
    cases = [case for case in means[first] if all(np.isfinite(found[case]) for found in means.values())]
    yield f"| {len(cases)} images | Dice | {first} minus it |"
    yield "|---|---|---|"
    for name, found in means.items():
        values = np.array([[means[first][case], found[case]] for case in cases])
        cell = ""
        if name != first:
            apart = grouped_bootstrap(values, [patients[case] for case in cases], lambda m: m[..., 0] - m[..., 1])
            cell = f"{apart.mean:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]"
        yield f"| {name} | {values[:, 1].mean():.3f} | {cell} |"


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    without: Scores = {}
    own: Scores = {}
    patients: dict[str, str] = {}
    for run in arguments.runs:
        knobs = json.loads((run / "run.json").read_text())["knobs"]
        if knobs["mpp"] is not None:
            sys.exit(f"{run} was trained by mpp: train with --scale, which this benchmark follows")
        parts = split(read_datalist(run), fold=int(knobs["fold"]), seed=int(knobs["seed"]))
        train = [Image(case, knobs) for case in parts.train]
        test = [Image(case, knobs) for case in parts.test if case.mask is not None]
        patients |= {image.case.case_id: image.case.patient_id for image in [*train, *test]}
        on_test_images(run, train, test, without)
        on_training_images(run, train, own)
    print("Test images, on which nobody clicked\n", *lines(without, patients), sep="\n")
    if own:
        print("\nTraining images, each from its own points\n", *lines(own, patients), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
