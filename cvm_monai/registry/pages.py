"""Texts, tags and links of MLflow's pages of a registered model, a version and its logged model."""

import json
from collections.abc import Mapping
from typing import Any

from cvm_monai.metrics import METRICS
from cvm_monai.registry.trained import TEST, Trained

VERSIONS = "mlflow.modelVersions"
"""Tag by which the page of a logged model lists its versions; of MLflow itself only `register_model` sets it."""

MODEL = """\
Segments histopathology images. Trained from clicked points by cvm_monai. Research only, not for diagnosis.

```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{name}@{alias}")
(found,) = model.predict([{{"image": image, "mpp": 0.5}}])
```

`image`: (H, W, 3) uint8 array, or a PNG as base64 text. `mpp`: its micrometres per pixel, needed where the version's \
`um_per_px` is known. `found`: `mask` and `probability`, PNG as base64 text, of the image's own size; with \
`params={{"polygons": True}}` also `polygons`, GeoJSON. Loading a model runs the code that it carries.
"""


def model_description(name: str, *, alias: str) -> str:
    """Write the description of the registered model in Markdown: its purpose and how to call it."""
    return MODEL.format(name=name, alias=alias)


def version_description(trained: Trained, *, tests: Mapping[str, float], tags: Mapping[str, str]) -> str:
    """Write the description of a version in Markdown: a first line that fits into a list, then a table.

    Args:
        tests: `test_*` values.
        tags: of the version.
    """
    together = pooled_overlap(tests) if len(trained.classes) == 2 else {}
    size = f"{tags['um_per_px']} um/px" if trained.knobs.get("mpp") else f"{tags['scale']} times their own size"
    facts = {
        "classes": tags["classes"],
        "sees images at": size,
        "stain": f"{tags['stain']}; normalisation: {tags['stain_normalisation']}",
        "trained by": f"{tags['supervision']}, network {tags['network']}",
        "tested on": f"fold {tags['fold']} of data list {tags['data_sha256'][:12]}",
        **{name: f"{value:.4g}{_spread(name, tests)}" for name, value in headline(tests).items()},
        **{name: f"{value:.4g}, all pixels of the test together" for name, value in together.items()},
    }
    rows = [f"| {name} | {value.replace('|', '/')} |" for name, value in facts.items()]
    first = f"{tags['supervision']}, {tags['network']}{_verdict(tests)}; research only"
    return "\n".join([first, "", "| | |", "|---|---|", *rows]) + "\n"


def headline(tests: Mapping[str, float]) -> dict[str, float]:
    """Select the test values over all classes: means over the images, medians of distances, or the values of points."""
    names = [name for metric in METRICS for name in (f"{TEST}{metric}", f"{TEST}{metric}_median")]
    points = [name for name in sorted(tests) if name.startswith(f"{TEST}point_")]
    return {name: tests[name] for name in (*names, *points) if name in tests}


def pooled_overlap(tests: Mapping[str, float]) -> dict[str, float]:
    """Compute recall and IoU over all pixels from the pooled Dice D = 2 P R / (P + R) and precision P."""
    dice, precision = tests.get(f"{TEST}pooled_dice"), tests.get(f"{TEST}pooled_precision")
    if dice is None:
        return {}
    recall = {} if not precision or 2 * precision <= dice else {"recall": dice * precision / (2 * precision - dice)}
    return recall | {"IoU": dice / (2 - dice)}


def _verdict(tests: Mapping[str, float]) -> str:
    """Describe the Dice and what it is a mean of, or that there is none."""
    if f"{TEST}dice" in tests:
        return f", test Dice {tests[f'{TEST}dice']:.3f}{_spread(f'{TEST}dice', tests)}"
    if f"{TEST}point_balanced_accuracy" not in tests:
        return ""
    count = tests.get(f"{TEST}point_count", 0)
    accuracy = tests[f"{TEST}point_balanced_accuracy"]
    return f", no Dice: tested on {count:.0f} points alone, balanced accuracy {accuracy:.3f}"


def _spread(name: str, tests: Mapping[str, float]) -> str:
    """Describe a mean's deviation and number of images; empty where neither was recorded."""
    images = tests.get(f"{name}_images", tests.get(f"{TEST}dice_images") if name.startswith(f"{TEST}dice") else None)
    found = [f"sd {tests[f'{name}_sd']:.2g}"] if f"{name}_sd" in tests else []
    found += [f"n = {images:.0f}"] if images is not None else []
    return f" ({', '.join(found)})" if found else ""


def copy_values(client: Any, *, model_id: str, run_id: str, tests: Mapping[str, float]) -> None:
    """Link the pages of the run and the logged model, and copy the test values to the logged model.

    The values are written with the run's time and step, so that the run's history does not change.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    points = [client.get_metric_history(run_id, metric)[-1] for metric in headline(tests)]
    again = [Metric(p.key, p.value, p.timestamp, p.step, model_id=model_id, run_id=run_id) for p in points]
    client.log_batch(run_id, metrics=again)
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def link_version(client: Any, *, name: str, version: str) -> None:
    """Make the page of a version's logged model list the version."""
    scheme, _, model_id = client.get_model_version(name, version).source.partition(":/")
    if scheme == "models":
        client.set_logged_model_tags(model_id, {VERSIONS: json.dumps([{"name": name, "version": version}])})
