"""The report of a preparation, in numbers and as text."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cvm_monai.annotations import BACKGROUND, TARGET, UNLABELLED
from cvm_monai.annotations.nesting import overlap_warnings
from cvm_monai.data.check import CheckedCase
from cvm_monai.data.datalist import DataList
from cvm_monai.data.folds import remedy, teaches

BOTH = frozenset({BACKGROUND, TARGET})
SHOWN = 10
"""Number of annotation files, and of annotations left out, that the printed report names; the rest is counted."""


@dataclass(frozen=True)
class PrepareReport:
    """The data list that was written, with counts and messages.

    Attributes:
        labels: the classes annotated in each case, by case id; empty for an unlabelled one.
        points: number of points by label, sampled ones included.
        regions: number of regions by label; 255 = exclusion.
        sampled: number of sampled points, by case id.
        dropped: message for each annotation outside its image.
        left_out: number of annotations of other types, by type.
        read: summary of each annotation file, by its name.
        min_distance: distance of sampled points from borders, px.
        overlaps: message for each annotation file with conflicting overlaps of regions.
    """

    datalist: DataList
    labels: Mapping[str, frozenset[int]]
    points: Mapping[int, int]
    regions: Mapping[int, int]
    sampled: Mapping[str, int]
    dropped: tuple[str, ...]
    left_out: Mapping[str, int]
    warnings: tuple[str, ...]
    min_distance: float
    read: Mapping[str, str] = field(default_factory=dict)
    overlaps: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [*self._contents(), "", *self._folds()]
        if self.read:
            lines += ["", "Read", *(f"  {name}: {sentence}" for name, sentence in [*self.read.items()][:SHOWN])]
            lines += [f"  and {len(self.read) - SHOWN} more"] * (len(self.read) > SHOWN)
        if self.dropped:
            lines += ["", f"Left out because outside the image: {len(self.dropped)}"]
            lines += [f"  {sentence}" for sentence in self.dropped[:SHOWN]]
            lines += [f"  and {len(self.dropped) - SHOWN} more"] * (len(self.dropped) > SHOWN)
        warnings = [*self.warnings, *self.overlaps[:SHOWN]]
        warnings += [f"and {len(self.overlaps) - SHOWN} more files with overlaps"] * (len(self.overlaps) > SHOWN)
        if warnings:
            lines += ["", "Warnings", *(f"  {sentence}" for sentence in warnings)]
        if not any(map(teaches, self.labels.values())):
            return "\n".join(
                [*lines, "", "Next", "  click target and background on the same image, then prepare again"]
            )
        place = self.datalist.path.parent
        folder, output = shlex.quote(str(place)), shlex.quote(f"runs/{place.name}")
        lines += ["", "Next", "  python -m monai.bundle run training --config_file bundle/configs/train.yaml \\"]
        return "\n".join([*lines, f"    --dataset_dir {folder} --output_dir {output}"])

    def _contents(self) -> list[str]:
        """List the cases, annotations and masks."""
        cases = self.datalist.cases
        rows = [
            ("cases", str(len(cases))),
            ("patients", str(len({case.patient_id for case in cases}))),
            ("masks", f"{sum(case.mask is not None for case in cases)} of {len(cases)} cases"),
            ("um/px", _mpp([case.mpp for case in cases])),
            ("annotated", self._annotated()),
            ("points", ", ".join(f"{self.points.get(label, 0)} {name}" for name, label in self._named())),
        ]
        if novel := sum(case.novel_mask is not None for case in cases):
            rows.append(("novel", f"masks of novel regions for {novel} of {len(cases)} cases"))
        if self.sampled:
            total = sum(self.sampled.values())
            away = f"{self.min_distance:g} px or more from borders where there is room"
            rows.append(
                ("sampled", f"{total} of them, from the masks of {len(self.sampled)} of {len(cases)} cases, {away}")
            )
        if self.regions:
            named = [*self._named(), ("exclusion", UNLABELLED)]
            rows.append(("regions", ", ".join(f"{self.regions.get(label, 0)} {name}" for name, label in named)))
        if self.left_out:
            rows.append(("not used", ", ".join(f"{count} {kind}" for kind, count in sorted(self.left_out.items()))))
        return [f"Wrote {self.datalist.path}", *(f"  {name:<11} {value}" for name, value in rows)]

    def _named(self) -> list[tuple[str, int]]:
        """Return the classes by name, background last."""
        background, *others = self.datalist.classes.items()
        return [*others, background]

    def _annotated(self) -> str:
        """Say how many cases have which classes."""
        kinds = Counter(self.labels.values())
        if len(self.datalist.classes) == 2:
            both, target, background, none = (kinds[frozenset(kind)] for kind in (BOTH, (TARGET,), (BACKGROUND,), ()))
            counts = f"{both} with both classes, {target} target only, {background} background only"
        else:
            every = sum(count for kind, count in kinds.items() if len(kind) == len(self.datalist.classes))
            none, enough = kinds[frozenset()], sum(count for kind, count in kinds.items() if teaches(kind))
            counts = f"{every} with all {len(self.datalist.classes)} classes, {enough - every} with background and some"
            counts += f", {len(self.labels) - enough - none} with less"
        return f"{counts}, {none} not at all (never trained on)"

    def _folds(self) -> list[str]:
        """Make a table of the folds."""
        title = "with both classes" if len(self.datalist.classes) == 2 else "for pseudo-labels"
        lines = [f"{'fold':>6} {'cases':>6} {'patients':>9} {title:>18}"]
        for fold in self.datalist.folds:
            cases = [case for case in self.datalist.cases if case.fold == fold]
            both = sum(teaches(self.labels[case.case_id]) for case in cases)
            lines.append(f"{fold:>6} {len(cases):>6} {len({case.patient_id for case in cases}):>9} {both:>18}")
        return lines


def _mpp(values: Sequence[float | None]) -> str:
    """Format the range of the known um/px."""
    known = [value for value in values if value is not None]
    if not known:
        return "unknown (add a column mpp to cases.csv to work at a chosen pixel size)"
    extent = f"{min(known):g}" if min(known) == max(known) else f"{min(known):g} to {max(known):g}"
    return extent if len(known) == len(values) else f"{extent}, unknown for {len(values) - len(known)} images"


def make_report(
    datalist: DataList, checked: Sequence[CheckedCase], *, warnings: Sequence[str], min_distance: float
) -> PrepareReport:
    """Make the report: count the annotations of the checked cases."""
    points: Counter[int] = Counter()
    regions: Counter[int] = Counter()
    left_out: Counter[str] = Counter()
    labels: dict[str, frozenset[int]] = {}
    sampled: dict[str, int] = {}
    for case in checked:
        left_out.update(case.left_out)
        labels[case.source.case_id] = case.annotations.labels() if case.annotations else frozenset()
        if case.annotations:
            points.update(point.label for point in case.annotations.points)
            regions.update(region.label for region in case.annotations.regions)
        if case.annotations and case.origin == "sampled":
            sampled[case.source.case_id] = len(case.annotations.points)
    return PrepareReport(
        datalist=datalist,
        labels=labels,
        points=dict(points),
        regions=dict(regions),
        sampled=sampled,
        dropped=tuple(sentence for case in checked for sentence in case.dropped),
        left_out=dict(left_out),
        warnings=(*warnings, *_untrainable(datalist, labels)),
        min_distance=min_distance,
        read={_file_name(case): case.read for case in checked if case.read is not None},
        overlaps=tuple(text for case in checked for text in overlap_warnings(case.left_out, _file_name(case))),
    )


def _file_name(case: CheckedCase) -> str:
    """Return the name of the user's annotation file, or the case id for points from a table."""
    file = case.source.points_file
    return file.name if file else f"case {case.source.case_id}"


def _untrainable(datalist: DataList, labels: Mapping[str, frozenset[int]]) -> list[str]:
    """List folds that cannot be the test fold, because the other cases lack a class, or an image with both classes."""
    both = [case.fold for case in datalist.cases if teaches(labels[case.case_id])]
    if not both:
        return ["no fold can be trained: no image has points of both classes"]
    if not datalist.tested:
        return []
    if alone := _left_alone(datalist):
        return [f"{alone}: training and validation need two patients beside the tested ones; {remedy(datalist)}"]
    warnings = [
        f"fold {fold} cannot be trained: no image of the other folds has points of both classes"
        for fold in datalist.folds
        if all(other == fold for other in both)
    ]
    if len(datalist.classes) == 2:
        return warnings
    for fold in datalist.folds:
        others = [labels[case.case_id] for case in datalist.cases if case.fold != fold]
        missing = [name for name, label in datalist.classes.items() if label not in frozenset().union(*others)]
        warnings += [f"fold {fold} cannot be trained: the other folds have no points of {name}" for name in missing]
    return warnings


def _left_alone(datalist: DataList) -> str:
    """Name the folds that leave a single patient for training; empty if there are none."""
    folds = [
        str(fold)
        for fold in datalist.folds
        if len({case.patient_id for case in datalist.cases if case.fold != fold}) < 2
    ]
    return f"fold{'s' * (len(folds) > 1)} {' and '.join(folds)} cannot be trained" if folds else ""
