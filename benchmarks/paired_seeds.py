"""Interval of the difference in Dice between two settings, over test images and seeds.

    python benchmarks/paired_seeds.py --runs RUN ... --against RUN ...

RUN are output folders of evaluated trainings, one for each seed, in the same order on both sides; folds that belong to
one seed are joined by a comma. Printed: both means, and the mean difference with its 95 % percentile interval where
seeds and images are both drawn with replacement, 10,000 times. Images of one patient count as independent: where a
patient has several, `compare` gives the interval over patients.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

RESAMPLES = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", required=True)
    parser.add_argument("--against", nargs="+", required=True)
    arguments = parser.parse_args()
    one, other = (np.array([dice(run) for run in runs]) for runs in (arguments.runs, arguments.against))
    if one.shape != other.shape:
        parser.error(f"{one.shape} seeds and images against {other.shape}: give as many runs of the same test images")
    low, high = interval(one - other)
    print(f"{one.mean():.3f} against {other.mean():.3f}: {(one - other).mean():+.3f} ({low:+.3f} to {high:+.3f})")
    return 0


def dice(run: str) -> list[float]:
    """Dice of each test image of a run, or of its folds, in the order of the images' names."""
    found: dict[str, float] = {}
    for folder in run.split(","):
        with (Path(folder) / "evaluation" / "per_case.csv").open(newline="") as file:
            found |= {row["case_id"]: float(row["dice"]) for row in csv.DictReader(file)}
    return [value for _, value in sorted(found.items())]


def interval(apart: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of the mean of differences (seeds, images), both drawn with replacement."""
    rng, (seeds, images) = np.random.default_rng(0), apart.shape
    means = [
        apart[rng.integers(seeds, size=seeds)][:, rng.integers(images, size=images)].mean() for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    raise SystemExit(main())
