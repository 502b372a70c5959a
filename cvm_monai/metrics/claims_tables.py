"""Format the text claims of a test: their section of the summary, and the calibration table of all pixels."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from pathlib import Path

from cvm_monai.files import write_table
from cvm_monai.metrics.calibration import BINS, Reliability
from cvm_monai.metrics.claims import CLAIMS, ClaimName, ClaimScores, pool_claims
from cvm_monai.metrics.summary import MetricSummary, summarise_claims
from cvm_monai.metrics.tables import number

CLAIM_TITLES: Mapping[ClaimName, str] = {
    "novel_fpr": "False positives in novel regions",
    "pieces": "Pieces per true region",
    "region_ratio": "Regions predicted / true",
    "boundary_ratio": "Boundary predicted / true",
    "hd95_px": "HD95 (px)",
    "hd95_um": "HD95 (um)",
    "ece": "ECE",
    "brier": "Brier",
    "object_dice": "Object Dice",
    "object_f1": "Object F1",
}

CLAIM_MEANINGS: Mapping[ClaimName, str] = {
    "novel_fpr": "part of the background in regions unlike anything annotated that is taken for target. 0 is best.",
    "pieces": "connected pieces in which the prediction covers a true region, over the regions it covers at all. 1 is "
    "best; it does not see regions that were missed.",
    "region_ratio": "connected components of the prediction / of the truth. More than 1: specks or fragments; less: "
    "regions missed or joined; 0: nothing predicted.",
    "boundary_ratio": "length of the predicted / of the true boundary. More than 1: rougher or in pieces; less: "
    "smoother than the truth, or missed.",
    "hd95_px": "95 % of either boundary lie within so many pixels of the other. 0 is best.",
    "hd95_um": "95 % of either boundary lie within so many micrometres of the other. 0 is best.",
    "ece": f"how far the probability is from the share of target among pixels that got it ({BINS} bins). 0 is best.",
    "brier": "mean squared error of the probability. 0 is best, 0.25 is always one half.",
    "object_dice": "Dice of each object with its counterpart, weighted by area. 1 is best.",
    "object_f1": "objects found (half of them covered) against objects missed and invented. 1 is best.",
}

REASONS: Mapping[ClaimName, str] = {
    "novel_fpr": "no image has a mask with a novel region",
    "hd95_um": "not every image has a pixel size",
    "object_dice": "the masks do not tell objects apart",
    "object_f1": "the masks do not tell objects apart",
}
"""Most frequent reason why a claim has no value in any image."""

CALIBRATION_COLUMNS = ("lower", "upper", "pixels", "mean_probability", "target_fraction")


def claims_markdown(scores: Sequence[ClaimScores]) -> str:
    """Write a Markdown section: every claim defined for some image, and why the others are undefined.

    Raises:
        CvmError: no image.
    """
    summary, pooled = summarise_claims(scores), pool_claims(scores)
    measured = [name for name in CLAIMS if summary[name].n]
    lines = [
        "",
        "## The claims in words",
        "",
        "What is claimed of the method beyond the scores above: few false alarms in tissue unlike anything annotated, "
        "regions in one piece, smooth boundaries at the right place, a probability that means what it says.",
        "",
        "| Claim | Mean ± SD over images | Median | Images | Pooled |",
        "|---|---|---|---|---|",
        *(_line(name, summary[name], getattr(pooled, name)) for name in measured),
        "",
        *(f"- {CLAIM_TITLES[name]}: {CLAIM_MEANINGS[name]}" for name in measured),
        *(f"- {sentence}" for sentence in why_not(name for name in CLAIMS if name not in measured)),
    ]
    return "\n".join(lines) + "\n"


def why_not(names: Iterable[ClaimName]) -> list[str]:
    """Write a sentence for each claim that is not measured, with the reason."""
    return [f"{CLAIM_TITLES[name]} is not measured: {REASONS.get(name, 'no image defines it')}." for name in names]


def write_calibration_csv(path: Path, counts: Reliability) -> None:
    """Write one line per bin: its ends, pixel count, mean probability and fraction of target (empty: no pixels).

    The file is replaced atomically; its folder is created.
    """
    rows: list[Sequence[object]] = [CALIBRATION_COLUMNS]
    for index, pixels in enumerate(counts.pixels):
        means = (counts.probability[index] / pixels, counts.target[index] / pixels) if pixels else ()
        shown = [f"{value:.6f}" for value in means] or ["", ""]
        rows.append([f"{index / BINS:.6f}", f"{(index + 1) / BINS:.6f}", int(pixels), *shown])
    write_table(path, rows)


def _line(name: ClaimName, metric: MetricSummary, pooled: float) -> str:
    mean = number(metric.mean) if metric.n < 2 else f"{number(metric.mean)} ± {number(metric.sd)}"
    images = f"{metric.n} ({metric.left_out} left out)" if metric.left_out else f"{metric.n}"
    together = "" if isnan(pooled) else number(pooled)
    return f"| {CLAIM_TITLES[name]} | {mean} | {number(metric.median)} | {images} | {together} |"
