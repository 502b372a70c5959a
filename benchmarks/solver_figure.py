"""Draw the solver's iterations on one image of a data set: u and the energy over the iterations.

    python benchmarks/solver_figure.py RUN --dataset_dir data/phantom --case case_000 --out docs/images/solver.png

RUN is the output folder of a training (for example by `solver_study.py`), whose network gives the features.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cvm_monai.annotations import read_annotations
from cvm_monai.data.transforms import map_points
from cvm_monai.figures import palette, panels, save_figure
from cvm_monai.figures.curves import tidy
from cvm_monai.inference import load_network, network_input
from cvm_monai.slides import read_image, read_mask
from cvm_monai.variational import Solution, contrast_maps, solve

STEPS = (5, 50, 500)
LAMS = (0.5, 2.0)
SHOWN = 0.5
"""The lam whose u are shown."""


def contrast_map(run: Path, image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The map of the first in-target point, (h, w) float64."""
    with torch.no_grad():
        _, features = load_network(run).features(network_input(image)[None])
    inside, outside = map_points(points, image_shape=image.shape[:2], map_shape=features.shape[-2:])
    return contrast_maps(features[0].double(), inside, outside)[0].numpy()


def draw_maps(figure: Figure, image: np.ndarray, points: np.ndarray, truth: np.ndarray, z: np.ndarray) -> None:
    """The row of panels."""
    shown = {
        f"{steps} AOS steps": solve(z, method="aos", lam=SHOWN, iterations=steps, tolerance=0, means="fixed").u
        for steps in STEPS
    }
    shown["certified optimum"] = optimum(z, SHOWN).u
    axes = figure.subplots(1, 3 + len(shown))
    panels.draw_image(axes[0], image)
    panels.draw_points(axes[0], points)
    panels.draw_image(axes[1], image)
    panels.draw_outline(axes[1], truth, (image.shape[1], image.shape[0]), palette.TRUTH_OUTLINE)
    for panel, values in zip(axes[2:], [z, *shown.values()], strict=True):
        heat = panels.draw_soft_map(panel, values, (image.shape[1], image.shape[0]))
    for panel, title in zip(axes, ("image, points", "ground truth", "contrast map z", *shown), strict=True):
        panel.set_title(title, fontsize=palette.TEXT_SIZE, color=palette.INK)
    bar = figure.colorbar(heat, ax=axes, fraction=0.01, pad=0.01, ticks=(0, 0.5, 1))
    bar.ax.tick_params(labelsize=palette.SMALL_SIZE)


def optimum(z: np.ndarray, lam: float) -> Solution:
    """The certified optimum for the fixed means."""
    return solve(z, method="primal_dual", lam=lam, iterations=20000, tolerance=1e-6, means="fixed")


def draw_energy(axes: Axes, z: np.ndarray, lam: float) -> None:
    """Energy of both methods against iterations, and the certified optimum as a line."""
    lowest = optimum(z, lam)
    settings = {"lam": lam, "iterations": 2000, "tolerance": 0, "means": "fixed", "history": True}
    for method, name, colour in (("aos", "AOS", palette.VERMILION), ("primal_dual", "primal-dual", palette.BLUE)):
        history = solve(z, method=method, **settings).history
        axes.plot(np.arange(1, len(history) + 1), history, color=colour, linewidth=1.4, label=name)
    axes.axhline(
        lowest.energy,
        color=palette.INK,
        linewidth=0.9,
        linestyle="--",
        label=f"certified optimum, relative gap {lowest.gap:.0e}",
    )
    axes.set(xscale="log", xlabel="iterations", title=f"lam = {lam:g}")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.title.set(fontsize=palette.TEXT_SIZE, color=palette.INK)
    axes.xaxis.label.set(fontsize=palette.TEXT_SIZE, color=palette.INK)
    axes.set_ylabel("energy (Eq. 6)", fontsize=palette.TEXT_SIZE, color=palette.INK)
    tidy(axes)
    axes.grid(axis="y", color=palette.FAINT, linewidth=0.5)
    axes.legend(frameon=False, fontsize=palette.SMALL_SIZE, labelcolor=palette.INK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", type=Path, help="output folder of a training")
    parser.add_argument("--dataset_dir", type=Path, default=Path("data/phantom"))
    parser.add_argument("--case", default="case_000")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    folder = arguments.dataset_dir
    image = read_image(folder / "images" / f"{arguments.case}.png")
    annotations = read_annotations(folder / "points" / f"{arguments.case}.geojson")
    truth = read_mask(folder / "masks" / f"{arguments.case}.png") != 0
    z = contrast_map(arguments.run, image, annotations)
    points = np.array([(point.x, point.y, point.label) for point in annotations.points])
    figure = Figure(figsize=(10.5, 4.6), dpi=palette.DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    draw_maps(upper, image, points, truth, z)
    for axes, lam in zip(lower.subplots(1, len(LAMS)), LAMS, strict=True):
        draw_energy(axes, z, lam)
    print(save_figure(figure, arguments.out))


if __name__ == "__main__":
    main()
