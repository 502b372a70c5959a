"""Select test cases, and compute the heat maps of all methods on them."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cvm_monai.annotations import BACKGROUND, TARGET, first_pairs, read_annotations
from cvm_monai.data.datalist import Case, DataList
from cvm_monai.errors import CvmError
from cvm_monai.experiments.plan import Run
from cvm_monai.experiments.scores import Row, case_means, read_rows
from cvm_monai.figures import MethodMaps
from cvm_monai.figures.panels import LONGEST_SIDE
from cvm_monai.files import shown
from cvm_monai.inference import load_network, load_stain, predict, working_factor
from cvm_monai.runs.folder import TrainedKnobs
from cvm_monai.slides import read_image, read_mask

CASES = 4


def choose_cases(rows: Mapping[str, Sequence[Row]], *, count: int = CASES) -> list[str]:
    """Select cases with a Dice for all methods, evenly spaced from the lowest to the highest mean Dice of all methods.

    The choice favours no method and selects neither its failures nor its successes.
    """
    means = [case_means(own) for own in rows.values() if own]
    common = set.intersection(*(set(own) for own in means)) if means else set()
    ranked = sorted(common, key=lambda case: (float(np.mean([own[case] for own in means])), case))
    if not ranked:
        return []
    picks = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return [ranked[pick] for pick in picks]


def case_maps(case_ids: Sequence[str], runs: Sequence[Run], datalist: DataList) -> list[MethodMaps]:
    """Compute the probability of each method on each case, by the run of its fold with the lowest seed.

    Args:
        case_ids: of the data list.
        runs: finished ones.
        datalist: names the images, points and masks.

    Raises:
        CvmError: a case that is not in the data list, or a damaged file of a run.
    """
    cases = {case.case_id: case for case in datalist.cases if case.mask is not None}
    if unknown := [case_id for case_id in case_ids if case_id not in cases]:
        raise CvmError(f"{datalist.path} has no case {shown(unknown[0])} with a mask, which a run has scored")
    return [_maps(cases[case_id], runs) for case_id in case_ids]


def _maps(case: Case, runs: Sequence[Run]) -> MethodMaps:
    assert case.mask is not None  # it was scored
    image, truth = read_image(case.image), (read_mask(case.mask) != 0).astype(np.uint8)
    first: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        if run.fold == case.fold:
            first.setdefault(run.arm, run)
    maps = {arm: _probability(run, case, image) for arm, run in first.items()}
    dice = {arm: case_means(read_rows(run)).get(case.case_id, math.nan) for arm, run in first.items()}
    coarse = {arm: _coarse(probability) for arm, probability in maps.items()}
    return MethodMaps(case.case_id, image, _points(case, [*first.values()]), truth, coarse, dice)


def _points(case: Case, runs: Sequence[Run]) -> np.ndarray:
    """Points (N, 3) x, y, label that a training with the knobs of these runs uses at most."""
    pairs = max(TrainedKnobs(run.folder)["pairs"] for run in runs)
    points = first_pairs(read_annotations(case.points).points, pairs) if case.points else ()
    shown = [(point.x, point.y, point.label) for point in points if point.label in (TARGET, BACKGROUND)]
    return np.array(shown, dtype=float).reshape(-1, 3)


def _coarse(values: np.ndarray) -> np.ndarray:
    """Reduce to the size of a panel, so that many methods on large images fit into memory."""
    factor = -(-max(values.shape) // LONGEST_SIDE)
    return np.ascontiguousarray(values[factor // 2 :: factor, factor // 2 :: factor])


def _probability(run: Run, case: Case, image: np.ndarray) -> np.ndarray:
    output = str(run.folder)
    facts = TrainedKnobs(output)
    scale = working_factor(scale=facts["scale"], mpp=facts["mpp"], image_mpp=case.mpp, case_id=case.case_id)
    network = load_network(output)
    means = {name: facts[name] for name in ("image_mean", "image_std")}
    return predict(network, image, scale=scale, stain=load_stain(output), **means)
