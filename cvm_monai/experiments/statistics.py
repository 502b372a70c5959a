"""Paired tests of methods against a reference, and the share of the gap that each method closes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cvm_monai.experiments.scores import Row, case_means
from cvm_monai.metrics import Interval, grouped_bootstrap, holm, paired_bootstrap, paired_wilcoxon


@dataclass(frozen=True)
class Difference:
    """Difference in Dice of one method from the reference.

    Attributes:
        arm: the method.
        by_case: mean of (method - reference) over test cases, and its interval; cases are resampled.
        by_patient: the same mean, and its interval with patients resampled with all their cases; None for one patient.
        p: two-sided, of Wilcoxon's signed-rank test over cases.
        p_holm: corrected for the number of methods compared.
        cases: number of cases with a Dice for both methods.
        left_out: number of cases that lack either.
        better: number of cases where the method is better than the reference.
    """

    arm: str
    by_case: Interval
    by_patient: Interval | None
    p: float
    p_holm: float
    cases: int
    left_out: int
    better: int


@dataclass(frozen=True)
class GapShare:
    """(method - lower) / (upper - lower) of mean Dice, and its interval over patients; None if undefined.

    Attributes:
        arm: the method.
        share: 0 = no better than `lower`, 1 = as good as `upper`; outside [0, 1] beyond them.
        cases, patients: with a Dice for all three methods.
    """

    arm: str
    share: Interval | None
    cases: int
    patients: int


def differences(rows: Mapping[str, Sequence[Row]], *, reference: str) -> list[Difference]:
    """Compare every other method with the reference; pairs are test cases, seeds averaged.

    A method with fewer than two common cases is left out.

    Args:
        rows: all scores of each method.
        reference: one of them.
    """
    patient_of = _patients(rows)
    base = case_means(rows[reference])
    found = []
    for arm in rows:
        own = case_means(rows[arm])
        common = sorted(set(base) & set(own))
        if arm == reference or len(common) < 2:
            continue
        scores = np.array([[own[case], base[case]] for case in common])
        values = scores[:, 0] - scores[:, 1]
        patients = [patient_of[case] for case in common]
        several = len(set(patients)) > 1
        found.append(
            Difference(
                arm=arm,
                by_case=paired_bootstrap(values),
                by_patient=grouped_bootstrap(scores, patients, _difference) if several else None,
                p=paired_wilcoxon(values),
                p_holm=1.0,
                cases=len(common),
                left_out=len({row.case_id for row in [*rows[arm], *rows[reference]]}) - len(common),
                better=int((values > 0).sum()),
            )
        )
    corrected = holm([entry.p for entry in found])
    return [Difference(**{**vars(entry), "p_holm": p}) for entry, p in zip(found, corrected, strict=True)]


def gap_shares(rows: Mapping[str, Sequence[Row]], *, lower: str, upper: str) -> list[GapShare]:
    """Compute the share of the gap between two methods that every other one closes, on the cases common to all three.

    The interval resamples patients with their cases. Its ends are NaN if the gap is not above 0 in more resamples than
    the interval may leave out; the share is None if the gap itself is not above 0.
    """
    patient_of = _patients(rows)
    ends = case_means(rows[lower]), case_means(rows[upper])
    found = []
    for arm in rows:
        if arm in (lower, upper):
            continue
        own = case_means(rows[arm])
        common = sorted(set(own) & set(ends[0]) & set(ends[1]))
        scores = np.array([[own[case], ends[0][case], ends[1][case]] for case in common]).reshape(-1, 3)
        patients = [patient_of[case] for case in common]
        means = scores.mean(axis=0) if common else np.zeros(3)
        usable = len(set(patients)) > 1 and means[2] > means[1]
        share = grouped_bootstrap(scores, patients, _share) if usable else None
        found.append(GapShare(arm, share, len(common), len(set(patients))))
    return found


def _patients(rows: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    return {row.case_id: row.patient_id for arm in rows.values() for row in arm}


def _difference(means: np.ndarray) -> np.ndarray:
    return np.asarray(means[..., 0] - means[..., 1])


def _share(means: np.ndarray) -> np.ndarray:
    method, lower, upper = means[..., 0], means[..., 1], means[..., 2]
    gap = upper - lower
    return np.asarray(np.where(gap > 0, (method - lower) / np.where(gap > 0, gap, 1.0), np.nan))
