"""Commands with one broken input each; surface, number and seed decide every byte."""

import json
import os
import shutil
from pathlib import Path

import numpy as np

from . import broken_images, broken_texts
from .broken_bytes import broken_bytes
from .broken_images import broken_image, encoded, noise_image, tiff
from .configurations import bundles, configurations
from .job import Job, Surface, chosen
from .options import options, shards
from .outputs import apps, compared_data, comparisons, exports, outboxes, stores, trained_folder

NAMES = "abcd"
"""Case ids of a folder: four, as many as there are folds."""


def folder_of_images(rng: np.random.Generator, root: Path) -> Path:
    """A good folder: four images, points for two of them, a mask for a third, cases.csv."""
    folder = root / "input"
    for part in ("images", "points", "masks"):
        (folder / part).mkdir(parents=True)
    for name in NAMES:
        (folder / "images" / f"{name}.png").write_bytes(encoded(noise_image(rng), ".png"))
    for name in "ab":
        (folder / "points" / f"{name}.geojson").write_text(json.dumps(broken_texts.geojson(rng)))
    (folder / "masks" / "c.png").write_bytes(
        encoded(np.kron(np.eye(2, dtype=np.uint8), np.ones((20, 24), np.uint8)), ".png")
    )
    (folder / "cases.csv").write_text("case_id,patient_id,mpp\n" + "".join(f"{name},p{name},0.5\n" for name in NAMES))
    return folder


def prepare(root: Path, *more: str) -> Job:
    """`cvm-monai prepare` of the folder."""
    return Job(("prepare", str(root / "input"), "--output", str(root / "out"), *more), root / "input")


def images(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken image, or a broken mask."""
    folder = folder_of_images(rng, root)
    if rng.random() < 0.25:
        broken_image(rng, folder / "masks" / "c.png")
    else:
        broken_image(rng, folder / "images" / f"{chosen(rng, NAMES)}.png")
    return prepare(root, *(("--folds", "2") if rng.random() < 0.5 else ()))


def annotations(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken annotation file of any format."""
    folder = folder_of_images(rng, root)
    (folder / "points" / "a.geojson").unlink()
    write_broken_annotations(rng, folder / "points" / "a")
    return prepare(root, *(("--outside", "refuse") if rng.random() < 0.3 else ()))


def write_broken_annotations(rng: np.random.Generator, stem: Path) -> Path:
    """A broken file of any format of annotations beside a stem."""
    suffix = chosen(rng, [".geojson", ".geojson", ".json", ".xml", ".xml", ".csv", ".geojson.gz", ".png", ".tif"])
    path = stem.with_name(stem.name + suffix)
    if suffix in (".geojson", ".json"):
        good = broken_texts.geojson(rng) if suffix == ".geojson" else broken_texts.archive_json(rng)
        path.write_bytes(broken_texts.broken_json(rng, good))
    elif suffix == ".xml":
        path.write_bytes(broken_texts.broken_asap(rng))
    elif suffix == ".csv":
        rows = [["x", "y", "label"], ["3", "4", "target"], ["9.5", "30", "background"]]
        path.write_bytes(broken_texts.broken_table(rng, rows))
    elif suffix == ".geojson.gz":
        import gzip

        path.write_bytes(broken_bytes(rng, gzip.compress(json.dumps(broken_texts.geojson(rng)).encode())))
    else:
        _, data = broken_images.KINDS[rng.integers(len(broken_images.KINDS))](rng)
        path.write_bytes(data)
    return path


def points_table(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken points.csv."""
    folder = folder_of_images(rng, root)
    shutil.rmtree(folder / "points")
    rows = [["case_id", "x", "y", "label"]]
    rows += [
        [name, x, y, label] for name in "ab" for x, y, label in (("3", "4", "target"), ("9.5", "30", "background"))
    ]
    (folder / "points.csv").write_bytes(broken_texts.broken_table(rng, rows))
    return prepare(root)


def cases_table(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken cases.csv."""
    folder = folder_of_images(rng, root)
    rows = [["case_id", "patient_id", "mpp", "hospital"]]
    rows += [[name, f"p{name}", "0.5", "north"] for name in NAMES]
    (folder / "cases.csv").write_bytes(broken_texts.broken_table(rng, rows))
    return prepare(root, *(("--mpp", "0.5", "--whole") if rng.random() < 0.2 else ()))


def class_map(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken class map, a file or text."""
    folder = folder_of_images(rng, root)
    good = {
        "target": "target",
        "Stroma": {"class": "background", "color": [1, 2, 3]},
        "Lymph": 2,
        "3": "skip",
        "Unclassified": 1,
    }
    if rng.random() < 0.3:
        rows = [["label", "class", "color"], ["target", "target", "#ff0000"], ["Stroma", "2", ""]]
        path = folder / "classes.csv"
        path.write_bytes(broken_texts.broken_table(rng, rows))
    else:
        path = folder / "classes.json"
        path.write_bytes(broken_texts.broken_json(rng, good))
    text = path.read_bytes().decode("utf-8", errors="replace")
    return prepare(root, "--classes", text if rng.random() < 0.2 and "\0" not in text else str(path))


def folder_of_slides(rng: np.random.Generator, root: Path, suffix: str) -> Path:
    """Four good slides of 0.5 um/px, two of them annotated in files with a suffix."""
    folder = root / "input"
    (folder / "slides").mkdir(parents=True)
    (folder / "points").mkdir()
    for name in NAMES:
        (folder / "slides" / f"{name}.tif").write_bytes(good_slide(rng))
    for name in NAMES:
        good = broken_texts.asap(rng) if suffix == ".xml" else json.dumps(broken_texts.geojson(rng)).encode()
        (folder / "points" / f"{name}{suffix}").write_bytes(good)
    return folder


def good_slide(rng: np.random.Generator) -> bytes:
    """A tiled TIFF of 96 x 128 px."""
    image = noise_image(rng, (96, 128, 3))
    return tiff(
        image, tile=(64, 64), photometric="rgb", resolution=(2e4, 2e4), resolutionunit="CENTIMETER", compression="zlib"
    )


def break_slide(rng: np.random.Generator, path: Path) -> Path:
    """A slide's bytes damaged, or any broken image in its place."""
    if rng.random() < 0.6:
        path.write_bytes(broken_bytes(rng, path.read_bytes()))
        return path.rename(path.with_suffix(".svs")) if rng.random() < 0.2 else path
    return broken_image(rng, path)


def slides(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken slide, or broken annotations of one, to cut tiles from."""
    folder = folder_of_slides(rng, root, ".geojson")
    if rng.random() < 0.7:
        break_slide(rng, folder / "slides" / "a.tif")
    else:
        (folder / "points" / "a.geojson").unlink()
        write_broken_annotations(rng, folder / "points" / "a")
    size = (
        ["--whole"]
        if rng.random() < 0.4
        else ["--tile", "64", *(["--tissue_tiles", "1"] if rng.random() < 0.5 else [])]
    )
    more = [option for option in ("--region_masks", "--force_mpp") if rng.random() < 0.3]
    return prepare(root, "--mpp", chosen(rng, ("0.5", "1")), "--folds", "2", "--image_mpp", "0.5", *size, *more)


def camelyon(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken slide or broken XML among Camelyon's."""
    folder = folder_of_slides(rng, root, ".xml")
    if rng.random() < 0.4:
        break_slide(rng, folder / "slides" / "a.tif")
    else:
        (folder / "points" / "a.xml").write_bytes(broken_texts.broken_asap(rng))
    more = ("--classes", "target=target,background=exclusion", "--size", "64", "--folds", "2", "--image_mpp", "0.5")
    return Job(("camelyon16", f"{folder}/slides", f"{folder}/points", "--output", str(root / "out"), *more), folder)


def predict(root: Path, training: Path, *more: str) -> Job:
    """`cvm-monai predict` of input/slides by the training in input/run."""
    slides_folder = root / "input" / "slides"
    argv = ("predict", str(slides_folder), "--model", str(training), "--output", str(root / "out"), "--device", "cpu")
    return Job((*argv, "--num_workers", "0", "--window", "64", *more), root / "input")


def predicted_slides(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken slide, alone or beside a good one."""
    folder = root / "input" / "slides"
    folder.mkdir(parents=True)
    for name in "ab" if rng.random() < 0.3 else "a":
        (folder / f"{name}.tif").write_bytes(good_slide(rng))
    break_slide(rng, folder / "a.tif")
    return predict(root, training, "--tissue", chosen(rng, ("none", "otsu")), "--mpp", "0.5")


def tissue_masks(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken mask of tissue."""
    folder = root / "input" / "slides"
    folder.mkdir(parents=True)
    (folder / "a.tif").write_bytes(good_slide(rng))
    return predict(root, training, "--tissue", str(write_broken_annotations(rng, root / "input" / "tissue")))


def predicting_models(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A good slide, and a training that left something broken."""
    (root / "input" / "slides").mkdir(parents=True)
    (root / "input" / "slides" / "a.tif").write_bytes(good_slide(rng))
    return predict(root, trained_folder(rng, root, training))


def registered_models(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken training that is to be registered or exported as a bundle."""
    folder = trained_folder(rng, root, training)
    store = f"sqlite:///{root}/out/mlruns.db"
    argv = [
        ("register", str(folder), "--tracking_uri", store),
        ("export-bundle", str(root / "out" / "b.zip"), "--model", str(folder)),
    ][rng.integers(2)]
    return Job(argv, root / "input")


def data_lists(rng: np.random.Generator, root: Path, training: Path) -> Job:
    """A broken datalist.json, looked at by the doctor."""
    folder = root / "input"
    shutil.copytree(training / "data", folder)
    file = folder / "datalist.json"
    file.write_bytes(broken_texts.broken_json(rng, json.loads(file.read_text())))
    return Job(("doctor", str(folder)), folder)


SURFACES: dict[str, tuple[Surface, int]] = {
    "images": (images, 120),
    "annotations": (annotations, 130),
    "points.csv": (points_table, 30),
    "cases.csv": (cases_table, 40),
    "class map": (class_map, 40),
    "slides": (slides, 50),
    "camelyon16": (camelyon, 25),
    "predicted slides": (predicted_slides, 40),
    "tissue masks": (tissue_masks, 15),
    "models": (predicting_models, 30),
    "registered models": (registered_models, 15),
    "data lists": (data_lists, 30),
    "configurations": (configurations, 80),
    "bundles": (bundles, 24),
    "comparisons": (comparisons, 40),
    "compared data": (compared_data, 16),
    "exports": (exports, 24),
    "stores": (stores, 12),
    "outboxes": (outboxes, 32),
    "label apps": (apps, 4),
    "options": (options, 96),
    "shards": (shards, 16),
}
"""Each surface with the number of its cases."""

SLOW = ("configurations", "bundles", "comparisons", "compared data", "exports", "options")
"""Surfaces of which every eighth case runs always, rather than every fourth."""

SLOWEST = ("stores", "outboxes")
"""Surfaces of which none runs always: MLflow takes seconds to make its database."""

SEED = int(os.environ.get("CVM_FUZZ_SEED", "0"))
"""Another seed gives other damage: CVM_FUZZ_SEED=1 python -m pytest -m "ci or not ci" tests/fuzz."""


def job(name: str, number: int, root: Path, training: Path) -> Job:
    """The case of a surface."""
    surface, _ = SURFACES[name]
    return surface(np.random.default_rng([SEED, list(SURFACES).index(name), number]), root, training)
