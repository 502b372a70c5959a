"""Test a trained network on images with stronger or weaker staining."""

import contextlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.utils import eval_mode
from torch import nn

from cvm_monai.data.stain.transforms import ScaleStaind
from cvm_monai.engines.scoring import case_dice
from cvm_monai.errors import CvmError
from cvm_monai.figures import Measured, SweepPanel, save_figure, sweep_curves
from cvm_monai.metrics import STAIN_NAMES, ShiftedDice, StainName, shifts_markdown, summarise_values, write_shifts_csv

Item = dict[Hashable, Any]
TABLE, FIGURE = "stain_shift.csv", "stain_shift.png"


class StainShiftTest:
    """Computes the mean Dice over the test images with the haematoxylin or eosin concentration times each factor.

    Each factor other than 1 costs two further passes of the network over the test images, one for each stain.

    Args:
        network: logits (B, C, h, w) from (B, 3, H, W), trained.
        factors: above 0; 1 is the test itself, which is always shown and costs nothing. Further from 1 is a harder
            test; 0.5 to 2. Empty: no test.
        load: converts a record to an item whose `image` is uint8 (3, H, W), as in training.
        prepare: the remaining preprocessing of the network's images, stain normalisation included; it runs after the
            shift, as with a slide from another laboratory.
        device: of the network.
        amp: mixed precision on a GPU, as in the test.

    Raises:
        CvmError: factors that are not a list of numbers above 0.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        factors: Sequence[float],
        load: Callable[[Mapping[Hashable, Any]], Item],
        prepare: Callable[[Item], Item],
        device: torch.device | str,
        amp: bool = False,
    ) -> None:
        self.factors = checked_factors(factors)
        self.network, self.load, self.prepare = network, load, prepare
        self.device, self.amp = torch.device(device), amp

    def run(self, records: Sequence[Mapping[Hashable, Any]], *, unshifted: Mapping[str, float]) -> list[ShiftedDice]:
        """Return one entry for each stain and factor, factor 1 included; empty if there are no factors.

        Args:
            records: of cases with masks.
            unshifted: Dice of the unchanged images, by case id.
        """
        if not self.factors:
            return []
        factors = sorted({*self.factors, 1.0})
        found: dict[tuple[StainName, float], list[float]] = {(s, f): [] for s in STAIN_NAMES for f in factors}
        for record in records:
            item = self.load(record)
            for (stain, factor), values in found.items():
                same = factor == 1
                values.append(unshifted[record["case_id"]] if same else self._dice(record, item, stain, factor))
        return [ShiftedDice(stain, factor, summarise_values(values)) for (stain, factor), values in found.items()]

    def _dice(self, record: Mapping[Hashable, Any], item: Item, stain: StainName, factor: float) -> float:
        image = self.prepare(ScaleStaind(**{stain: factor})(item))["image"]
        mixed = torch.autocast("cuda") if self.amp and self.device.type == "cuda" else contextlib.nullcontext()
        with eval_mode(self.network), mixed:
            logits = self.network(torch.as_tensor(image)[None].to(self.device))[0]
        return case_dice(record, logits)


def checked_factors(factors: Any) -> tuple[float, ...]:
    """Convert the factors to numbers; raises CvmError for anything but a list of finite numbers above 0."""
    listed = list(factors) if isinstance(factors, list | tuple) else [factors]
    for factor in listed:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise CvmError(f"--stain_shifts must be a list of numbers above 0, or [] for none, got {factors!r}")
    return tuple(float(factor) for factor in listed)


def report_shifts(rows: Sequence[ShiftedDice], folder: Path) -> str:
    """Write the table and its figure into the folder; returns the section for the summary."""
    write_shifts_csv(folder / TABLE, rows)
    if any(row.dice.n for row in rows):
        save_figure(sweep_curves([_panel(rows)]), folder / FIGURE)
    return shifts_markdown(rows)


def _panel(rows: Sequence[ShiftedDice]) -> SweepPanel:
    lines: dict[str, dict[float, Measured]] = {}
    for row in rows:
        if row.dice.n:
            spread = row.dice.sd if row.dice.n > 1 else 0.0
            lines.setdefault(row.stain, {})[row.factor] = Measured(row.dice.mean, spread)
    return SweepPanel("Factor on the stain's concentration", lines, log=True)
