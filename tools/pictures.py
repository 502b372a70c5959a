"""Draw the pictures of the documents from the phantom: the model in ten pictures, resolution, a slide.

    python tools/pictures.py build/pictures --output docs/images

The first argument is a folder for the phantom and a training of some minutes on it; what is there already is kept.
"""

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import cvm_monai as cvm
from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.figures import palette, panels, save_figure
from cvm_monai.figures.curves import tidy
from cvm_monai.losses import entropy_weight
from cvm_monai.slides import write_pyramid
from cvm_monai.variational import centred
from cvm_monai.variational.chan_vese import edge_detector, region_term, threshold_means

ROOT = Path(__file__).resolve().parents[1]
CONFIG = str(ROOT / "bundle" / "configs" / "train.yaml")
NARROW = ["--network", "unet", "--network_channels", "[16,32,64,128,128]"]
EPOCHS = (2, 10, 30)
"""The training is interrupted after these, to keep the pseudo-labels of that moment."""
TRAINED, TESTED = "case_004", "case_007"
"""A case of the training part of fold 0, and one of its test part."""
WIDTH = 7.2
"""Inches; a page shows a picture some 720 px wide."""


@dataclass(frozen=True)
class Case:
    """One image of the phantom and what the trained network says of it, the points on the feature map."""

    image: np.ndarray
    points: np.ndarray
    truth: np.ndarray
    features: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    probability: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[1], self.image.shape[0]


def main() -> None:
    """Train where nothing is there yet, then draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="for the phantom and the training")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    folder, out = arguments.folder.resolve(), arguments.output
    train(folder)
    case = read_case(folder, TRAINED)
    draw = (features, correlation, centring, contrast, energy, solvers, lams, weights)
    for number, function in enumerate(draw, start=1):
        print(save_figure(function(case), out / f"model_{number:02d}_{function.__name__}.png"))
    print(save_figure(renewal(folder, case), out / "model_09_renewal.png"))
    print(save_figure(result(read_case(folder, TESTED)), out / "model_10_result.png"))
    print(save_figure(resolution(folder), out / "resolution.png"))
    slide(folder, out / "slide_overlay.png")
    shutil.copyfile(folder / "run" / "evaluation" / "stain_shift.png", out / "stain_shift.png")


def train(folder: Path) -> None:
    """Draw the phantom and train the narrow U-Net, keeping u after each of EPOCHS; evaluate it."""
    data, run = folder / "data", folder / "run"
    if not (data / "datalist.json").is_file():
        cvm_monai("phantom", data)
    for epochs in EPOCHS:
        kept = folder / f"u_{epochs}.npy"
        if kept.is_file():
            continue
        bundle("training", CONFIG, run, "--dataset_dir", data, *NARROW, "--max_epochs", epochs, "--resume", "auto")
        label = PseudoLabelStore(run / "pseudo_labels").get(TRAINED)
        assert label is not None, f"{TRAINED} has no pseudo-label after {epochs} epochs"
        np.save(kept, label)
    if not (run / "evaluation" / "stain_shift.png").is_file():
        bundle("evaluating", f"['{CONFIG}','{CONFIG.replace('train', 'evaluate')}']", run)


def bundle(run_id: str, config: str, run: Path, *words: Any) -> None:
    """Run a workflow of the bundle."""
    command = ["monai.bundle", "run", run_id, "--config_file", config, "--output_dir", run, *words]
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True)


def cvm_monai(*words: Any) -> None:
    """Run a command of `cvm-monai`."""
    subprocess.run([sys.executable, "-m", "cvm_monai", *map(str, words)], check=True)


def read_case(folder: Path, name: str) -> Case:
    """Read a case of the phantom and compute its features."""
    data = folder / "data"
    image = cvm.read_image(data / "images" / f"{name}.png")
    found = cvm.read_annotations(data / "points" / f"{name}.geojson")
    network = cvm.load_network(folder / "run")
    with torch.no_grad():
        _, maps = network.features(cvm.network_input(image)[None])
    values = maps[0].double().numpy()
    inside, outside = cvm.map_points(found, image_shape=image.shape[:2], map_shape=values.shape[1:])
    points = np.array([(point.x, point.y, point.label) for point in found.points])
    truth = cvm.read_mask(data / "masks" / f"{name}.png") != 0
    return Case(image, points, truth, values, inside, outside, cvm.predict(network, image))


def strip(count: int, height: float = 2.1) -> tuple[Figure, Any]:
    """An empty figure with a row of panels."""
    figure = Figure(figsize=(WIDTH, height), dpi=palette.DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count)


def name(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=palette.TEXT_SIZE, color=palette.INK)


def image_and_points(axes: Axes, case: Case) -> None:
    panels.draw_image(axes, case.image)
    panels.draw_points(axes, case.points)
    name(axes, "image, clicks")


def soft(axes: Axes, case: Case, values: np.ndarray, title: str) -> Any:
    """A map in [0, 1] with the outline of the true target."""
    shown = panels.draw_soft_map(axes, values, case.size)
    panels.draw_outline(axes, case.truth, case.size, palette.TRUTH_OUTLINE)
    name(axes, title)
    return shown


def ruler(figure: Figure, axes: Any, shown: Any, ticks: tuple[float, ...] = (0, 0.5, 1)) -> None:
    bar = figure.colorbar(shown, ax=axes, fraction=0.015, pad=0.01, ticks=ticks)
    bar.ax.tick_params(labelsize=palette.SMALL_SIZE)


def stretched(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.min()) / max(values.max() - values.min(), 1e-12))


def features(case: Case) -> Figure:
    """The image, and the first three principal components of its feature vectors as red, green and blue."""
    figure, axes = strip(3, 2.5)
    image_and_points(axes[0], case)
    vectors = case.features.reshape(len(case.features), -1)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    basis = np.linalg.svd(vectors @ vectors.T)[0][:, :3]
    parts = (basis.T @ vectors).reshape(3, *case.features.shape[1:])
    low, high = np.percentile(parts, (1, 99), axis=(1, 2), keepdims=True)
    colours = np.clip((parts - low) / (high - low), 0, 1)
    panels.draw_image(axes[1], (255 * colours.transpose(1, 2, 0)).astype(np.uint8))
    name(axes[1], f"Feature Map 2 ({len(case.features)} channels, as 3 colours)")
    panels.draw_image(axes[2], case.image)
    panels.draw_outline(axes[2], case.truth, case.size, palette.TRUTH_OUTLINE)
    name(axes[2], "ground truth")
    return figure


def one_point(axes: Axes, case: Case, point: np.ndarray, label: int) -> None:
    """Mark the point whose map is shown."""
    row, column = point
    panels.draw_points(axes, np.array([(column + 0.5, row + 0.5, label)]))


def correlations(case: Case, maps: np.ndarray, words: str) -> Figure:
    """Cosine to the first in-target point, and to the first out-of-target point."""
    figure, axes = strip(3, 2.3)
    image_and_points(axes[0], case)
    for panel, points, label, kind in (
        (axes[1], case.inside, 1, "in-target"),
        (axes[2], case.outside, 0, "out-of-target"),
    ):
        found = cvm.correlation_maps(maps, points[:1])[0]
        shown = soft(panel, case, (found + 1) / 2, f"cosine to one {kind} click{words}")
        one_point(panel, case, points[0], label)
    ruler(figure, axes, shown)
    figure.axes[-1].set_yticks([0, 0.5, 1], ["-1", "0", "1"])
    return figure


def correlation(case: Case) -> Figure:
    return correlations(case, case.features, "")


def centring(case: Case) -> Figure:
    return correlations(case, centred(case.features, "image"), ", centred")


def contrast(case: Case) -> Figure:
    """The paper's contrast map and the default evidence."""
    figure, axes = strip(3, 2.3)
    image_and_points(axes[0], case)
    paper = cvm.contrast_maps(case.features, case.inside, case.outside).mean(0)
    soft(axes[1], case, paper, "the paper's contrast map")
    shown = soft(axes[2], case, evidence(case), "default evidence z")
    ruler(figure, axes, shown)
    return figure


def evidence(case: Case) -> np.ndarray:
    """The map that is solved by default."""
    return np.asarray(cvm.segment(case.features, case.inside, case.outside).contrast[0])


def energy(case: Case) -> Figure:
    """The two terms that the energy weighs: where z says target, and where a border is cheap."""
    figure, axes = strip(3, 2.3)
    z = evidence(case)
    soft(axes[0], case, z, "evidence z")
    data = region_term(z, threshold_means(z))
    soft(axes[1], case, 0.5 - data / (2 * np.abs(data).max()), "data term (1: target)")
    shown = soft(axes[2], case, stretched(edge_detector(z)), "edge weight g")
    ruler(figure, axes, shown)
    return figure


def solvers(case: Case) -> Figure:
    """u of AOS after some steps, the certified optimum, and the energies on the way."""
    figure = Figure(figsize=(WIDTH, 5.0), dpi=palette.DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.25))
    axes, z = upper.subplots(1, 4), evidence(case)
    fixed: dict[str, Any] = {"lam": 0.2, "means": "fixed"}
    for panel, steps in zip(axes[:3], (5, 50, 500), strict=True):
        shown = soft(
            panel, case, cvm.solve(z, method="aos", iterations=steps, tolerance=0, **fixed).u, f"{steps} AOS steps"
        )
    optimum = cvm.solve(z, iterations=20000, tolerance=1e-6, **fixed)
    soft(axes[3], case, optimum.u, "certified optimum")
    ruler(upper, axes, shown)
    curve = lower.subplots()
    for method, label, colour in (("aos", "AOS", palette.VERMILION), ("primal_dual", "primal-dual", palette.BLUE)):
        path = cvm.solve(z, method=method, iterations=1000, tolerance=0, history=True, **fixed).history
        curve.plot(np.arange(1, len(path) + 1), path / float(optimum.energy), color=colour, linewidth=1.4, label=label)
    curve.axhline(1, color=palette.INK, linewidth=0.9, linestyle="--", label=f"optimum, gap {float(optimum.gap):.0e}")
    curve.set(xscale="log", ylim=(0.98, None))
    curve.set_xlabel("iterations", fontsize=palette.TEXT_SIZE)
    curve.set_ylabel("energy / optimum", fontsize=palette.TEXT_SIZE)
    curve.xaxis.set_major_formatter("{x:g}")
    tidy(curve)
    curve.legend(frameon=False, fontsize=palette.SMALL_SIZE)
    return figure


def lams(case: Case) -> Figure:
    """u at three values of lam."""
    figure, axes = strip(4)
    image_and_points(axes[0], case)
    for panel, lam in zip(axes[1:], (0.1, 0.2, 1.0), strict=True):
        u = cvm.segment(case.features, case.inside, case.outside, lam=lam).u
        shown = soft(panel, case, np.zeros_like(case.truth, float) if u is None else u, f"u at lam = {lam:g}")
    ruler(figure, axes, shown)
    return figure


def weights(case: Case) -> Figure:
    """u of a few AOS steps, whose soft pixels the KL weighs less, and that weight."""
    figure, axes = strip(3, 2.3)
    image_and_points(axes[0], case)
    u = cvm.segment(case.features, case.inside, case.outside, method="aos", iterations=50).u
    assert u is not None
    soft(axes[1], case, u, "a soft u (50 AOS steps)")
    shown = soft(axes[2], case, entropy_weight(torch.from_numpy(u)).numpy(), "weight exp(-2 h(u)) in the loss")
    ruler(figure, axes, shown)
    return figure


def renewal(folder: Path, case: Case) -> Figure:
    """u of one training image as the training goes on."""
    figure, axes = strip(len(EPOCHS) + 1)
    image_and_points(axes[0], case)
    for panel, epochs in zip(axes[1:], EPOCHS, strict=True):
        shown = soft(panel, case, np.load(folder / f"u_{epochs}.npy"), f"u after {epochs} epochs")
    ruler(figure, axes, shown)
    return figure


def result(case: Case) -> Figure:
    """What the network alone says of an image of a patient that it never saw."""
    figure, axes = strip(4)
    panels.draw_image(axes[0], case.image)
    name(axes[0], "a test image")
    panels.draw_truth(axes[1], case.truth.astype(np.uint8), case.size)
    name(axes[1], "ground truth")
    shown = soft(axes[2], case, case.probability, "probability")
    panels.draw_errors(axes[3], case.image, case.truth.astype(np.uint8), case.probability > 0.5)
    name(axes[3], "right, missed, false")
    ruler(figure, axes, shown)
    return figure


def large_image(folder: Path) -> np.ndarray:
    """One large image of the phantom; kept in the folder."""
    data = folder / "large"
    if not (data / "images").is_dir():
        cvm.generate_phantom(data, cases=1, size=512, seed=3)
    return cvm.read_image(data / "images" / "case_000.png")


def resolution(folder: Path) -> Figure:
    """The same field of tissue at three um/px: fewer pixels, the same micrometres."""
    figure, axes = strip(3, 2.6)
    side_px = 192
    image = large_image(folder)[:side_px, :side_px]
    for panel, factor in zip(axes, (1, 2, 4), strict=True):
        side = side_px // factor
        small = image.reshape(side, factor, side, factor, 3).mean((1, 3)).astype(np.uint8)
        panels.draw_image(panel, small)
        name(panel, f"--mpp {0.5 * factor:g}: {side} x {side} px")
        panel.set_xlabel(f"{0.5 * side_px:g} x {0.5 * side_px:g} um", fontsize=palette.SMALL_SIZE)
    return figure


def slide(folder: Path, out: Path) -> None:
    """The overview that `cvm-monai predict` writes for a slide, here a large image of the phantom."""
    file = folder / "slides" / "phantom.tif"
    if not file.is_file():
        file.parent.mkdir(exist_ok=True)
        image = large_image(folder)
        write_pyramid(file, image.shape, [image], mpp=0.5)
    cvm_monai("predict", file, "--model", folder / "run", "--output", folder / "predicted", "--tissue", "none")
    with Image.open(folder / "predicted" / "phantom" / "overlay.png") as overview:
        size = (1000, round(1000 * overview.height / overview.width))
        overview.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(128).save(out, optimize=True)
    print(out)


if __name__ == "__main__":
    main()
