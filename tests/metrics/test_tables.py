"""The per-case CSV and the Markdown summary, letter by letter."""

import numpy as np
import pytest

from cvm_monai.metrics import CaseScores, PooledScores, score_image, summary_markdown, write_per_case_csv

IMAGES = {
    "a, left": ("p1", [[0.9, 0.6], [0.4, 0.1]], [[1, 0], [1, 0]]),
    "b": ("p1", [[0.9, 0.2], [0.8, 0.1]], [[1, 0], [1, 0]]),
    "c": ("p2", [[0.1, 0.2], [0.3, 0.1]], [[0, 0], [0, 255]]),
}


def _rows():
    return [
        CaseScores(name, patient, score_image(np.array(probability), np.array(truth)))
        for name, (patient, probability, truth) in IMAGES.items()
    ]


def test_the_csv_has_one_line_a_case_and_says_why_a_cell_is_empty(tmp_path):
    path = tmp_path / "eval" / "per_case.csv"
    write_per_case_csv(path, _rows())
    assert path.read_text(encoding="utf-8") == (
        "case_id,patient_id,n_pixels,target_fraction,dice,accuracy,precision,kappa,auc,novel_fpr,pieces,region_ratio,"
        "boundary_ratio,hd95_px,hd95_um,ece,brier,object_dice,object_f1,note\n"
        '"a, left",p1,4,0.500000,0.500000,0.500000,0.500000,0.000000,0.750000,,,,,,,,,,,\n'
        "b,p1,4,0.500000,1.000000,1.000000,1.000000,1.000000,1.000000,,,,,,,,,,,\n"
        'c,p2,3,0.000000,,1.000000,,,,,,,,,,,,,,"no target in the ground truth, nothing predicted: '
        'dice, precision, kappa, auc undefined"\n'
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["per_case.csv"]


@pytest.mark.parametrize(
    "probability, truth, note",
    [
        ([[0.9, 0.1]], [[1, 0]], ""),
        ([[0.1, 0.1]], [[1, 0]], "nothing predicted: precision undefined"),
        ([[0.9, 0.9]], [[1, 1]], "no background in the ground truth: kappa, auc undefined"),
        ([[0.9, 0.1]], [[0, 0]], "no target in the ground truth: auc undefined"),
        (
            [[0.9, 0.1]],
            [[255, 255]],
            "no pixel with ground truth: dice, accuracy, precision, kappa, auc undefined",
        ),
    ],
)
def test_the_note_names_cause_and_effect(probability, truth, note):
    assert CaseScores("x", "p", score_image(np.array(probability), np.array(truth))).note == note


def test_an_image_without_any_known_pixel_has_no_target_fraction(tmp_path):
    write_per_case_csv(tmp_path / "x.csv", [CaseScores("x", "p", score_image(np.zeros((1, 2)), np.full((1, 2), 255)))])
    assert (tmp_path / "x.csv").read_text().splitlines()[1].startswith(f'x,p,0{"," * 17}"no pixel')


SUMMARY = """\
# Test results

3 images of 2 patients; in 1 the ground truth has one class only.

How the numbers were made:

- Measured at the image's own resolution; a pixel is predicted as target where its probability is above 0.5.
- *Mean ± SD*: each image is scored by itself and all images weigh the same (SD: sample standard deviation).
- *Pooled*: the pixels of all images together, so that large images weigh more.
- A score that an image does not define (no target, nothing predicted) is left out of the mean, never counted \
as 0 or 1. *Images* says how many were counted, and how many left out.

| Metric | Mean ± SD over images | Images | Pooled |
|---|---|---|---|
| Dice | 0.750 ± 0.354 | 2 (1 left out) | 0.750 |
| Accuracy | 0.833 ± 0.289 | 3 | 0.818 |
| Precision | 0.750 ± 0.354 | 2 (1 left out) | 0.750 |
| Cohen's kappa | 0.500 ± 0.707 | 2 (1 left out) | 0.607 |
| AUC | 0.875 ± 0.177 | 2 (1 left out) | 0.964 |

- Dice: overlap of the predicted with the true target area: 0 = none, 1 = the same area.
- Accuracy: share of pixels that are right. High by itself where target is rare.
- Precision: share of the predicted area that truly is target. It does not see what was missed.
- Cohen's kappa: agreement of prediction and truth beyond chance: 0 = chance, 1 = perfect.
- AUC: how well the probability ranks target above background, whatever the threshold: 0.5 = chance, 1 = perfect.

- Worst case by Dice: `a, left` (0.500)
- Median case by Dice: `a, left` (0.500)
- Best case by Dice: `b` (1.000)

## The run

- method: cvm
- fold: 0
"""


def test_the_summary_states_rules_scores_extremes_and_facts():
    # pooled: TP FP FN TN = 3 1 1 6; of 4 x 7 pairs only (0.4, 0.6) is out of order -> AUC 27/28
    pooled = PooledScores()
    for _, probability, truth in IMAGES.values():
        pooled.update(np.array(probability), np.array(truth))
    facts = {"method": "cvm", "fold": 0}
    assert summary_markdown(_rows(), pooled.compute(), facts=facts, resolution="the image's own resolution") == SUMMARY


def test_one_case_without_target_is_summarised_without_numbers_it_does_not_have():
    row = _rows()[2]
    text = summary_markdown([row], row.scores, facts={}, resolution="x")
    assert "1 image of 1 patient; in 1 the" in text
    assert "| Dice | undefined | 0 (1 left out) | undefined |" in text
    assert "| Accuracy | 1.000 | 1 | 1.000 |" in text
    assert "No image defines a Dice." in text
