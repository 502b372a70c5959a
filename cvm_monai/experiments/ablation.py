"""The ablations of Section 5.4 and of the solver: their arms, report layout, and the call that runs them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from cvm_monai.errors import CvmError
from cvm_monai.experiments.compare import Result, Setup, Study, carry_out
from cvm_monai.experiments.execute import Executor
from cvm_monai.experiments.knobs import OWN, parse_knobs, read_train_config
from cvm_monai.experiments.layout import Layout, Sweep
from cvm_monai.experiments.plan import LOWER, REFERENCE, Arm
from cvm_monai.experiments.values import (
    SOLVERS,
    SolverSetting,
    number,
    read_values,
    solver_setting,
    solver_sweeps,
    text_of,
    whole,
)
from cvm_monai.files import shown
from cvm_monai.supervision.pseudo_labelled import PseudoLabelLoss

What = Literal["pairs", "eta", "solver"]

VALUES: Mapping[What, str] = {
    "pairs": "1,2,3,5",
    "eta": "0,0.3,0.6,0.9",
    "solver": "aos:5:0.5,aos:50:0.1,aos:50:0.2,aos:50:0.5,aos:50:1,aos:50:2,aos:500:0.5,"
    "primal_dual:500:0.5,primal_dual:500:1,primal_dual:500:2",
}
"""Values varied by default; the solver as name:iterations:lam."""

STEM = "ablation"
CONSTANTS = f"method_constants#{REFERENCE}"
LOSS = "pseudo_label_loss"
LOSSES: Mapping[PseudoLabelLoss, str] = {"weighted_kl": "weighted KL", "cross_entropy": "cross-entropy"}
BASELINE = Arm(LOWER, {"supervision": LOWER})
"""Points alone: the baseline for the effect of the pseudo-labels."""


@dataclass(frozen=True)
class Ablation:
    """Definition of a kind of ablation.

    Attributes:
        arms: that are trained.
        layout: of its report.
        most_pairs: points of each class that the data must have; None: no minimum.
    """

    arms: tuple[Arm, ...]
    layout: Layout
    most_pairs: int | None = None

    @property
    def own(self) -> Mapping[str, str]:
        """Knobs that the user cannot set in this ablation, and what to use instead."""
        whole_entry = f"change its entries one by one, such as --{CONSTANTS}#weight"
        varied = [f"{prefix}{name}" for name in self.layout.varied for prefix in ("", f"{CONSTANTS}#", "load#")]
        return {
            **OWN,
            "supervision": f"{REFERENCE} is what is ablated",
            "method_constants": whole_entry,
            CONSTANTS: whole_entry,
            **dict.fromkeys(varied, "the ablation varies it, see --values"),
        }


def plan_ablation(what: str, values: str | None, *, config: Mapping[str, Any]) -> Ablation:
    """Build the arms of an ablation, with the published setting as reference and `partial_ce` as baseline.

    Args:
        what: `pairs`: number of points, by weighted KL, by cross-entropy to u > 0.5, and by points alone (Figure 3a);
            `eta`: the strength of the subtraction in the contrast maps (Figure 3b); `solver`: solver, iterations, lam.
        values: comma-separated; None: `VALUES`.
        config: the bundle's training configuration, for the defaults.

    Raises:
        CvmError: an unknown `what`, or invalid values.
    """
    makers: Mapping[What, Callable[[str, Mapping[str, Any]], Ablation]]
    makers = {"pairs": _pairs, "eta": _eta, "solver": _solver}
    for known, make in makers.items():
        if what == known:
            return make(VALUES[known] if values is None else values, config)
    raise CvmError(f"--what must be one of {', '.join(get_args(What))}, got {shown(what)}")


def _pairs(text: str, config: Mapping[str, Any]) -> Ablation:
    values = read_values(text, whole, expected="whole numbers of at least 1")
    words = {value: f"{value}_pair{'s' * (value != 1)}" for value in values}
    arms: dict[str, list[Arm]] = {}
    for loss, name in LOSSES.items():
        suffix = name.replace("-", "_").replace(" ", "_")
        knobs = {"supervision": REFERENCE, f"{CONSTANTS}#{LOSS}": loss}
        arms[name] = [Arm(f"{words[value]}_{suffix}", {**knobs, "pairs": str(value)}) for value in values]
    weighted, cut = arms.values()
    arms["points alone"] = [Arm(f"{words[v]}_partial_CE", {"supervision": LOWER, "pairs": str(v)}) for v in values]
    lines = {
        name: {float(value): arm.name for value, arm in zip(values, own, strict=True)} for name, own in arms.items()
    }
    layout = Layout(
        heading="Pairs of points (Figure 3a)",
        stem=STEM,
        reference=weighted[-1].name,
        varied=("pairs", LOSS),
        contrasts=tuple((one.name, other.name) for one, other in zip(weighted, cut, strict=True)),
        sweeps=(Sweep("Pairs of points", lines, _among(_default(config, "pairs"), values)),),
        notes=(
            "Pairs: points of each class that an image is trained with at most. Weighted KL: `cvm`. Cross entropy: "
            "`cvm` with u cut at 0.5 to a mask that is learnt by cross-entropy. Partial CE: the points alone.",
        ),
    )
    return Ablation(tuple(arm for own in arms.values() for arm in own), layout, most_pairs=values[-1])


def _eta(text: str, config: Mapping[str, Any]) -> Ablation:
    values = read_values(text, partial(number, high=1), expected="numbers in [0, 1]")
    names = {value: f"eta_{text_of(value)}" for value in values}
    default = _default(config, "eta")
    layout = Layout(
        heading="Strength of the subtraction, eta (Figure 3b)",
        stem=STEM,
        reference=f"eta_{text_of(default)}",
        varied=("eta",),
        sweeps=(Sweep("eta", {"CVM": names}, _among(default, values), LOWER),),
        notes=("`cvm` with eta as the name says; at 0 no correlation with the other side's points is subtracted.",),
    )
    arms = [Arm(name, {"supervision": REFERENCE, "eta": text_of(value)}) for value, name in names.items()]
    return Ablation((*arms, BASELINE), layout)


def _solver(text: str, config: Mapping[str, Any]) -> Ablation:
    expected = f"settings such as aos:50:0.5 (solver:iterations:lam, the solver {' or '.join(SOLVERS)})"
    settings = read_values(text, solver_setting, expected=expected)
    usual = SolverSetting(config["solver"], int(_default(config, "iterations")), _default(config, "lam"))
    layout = Layout(
        heading="Solver, iterations and lam",
        stem=STEM,
        reference=usual.arm,
        varied=("solver", "iterations", "lam"),
        sweeps=solver_sweeps(settings, usual=usual, level=LOWER),
        notes=("`cvm` with solver, iterations and lam as the name says.",),
    )
    arms = [Arm(entry.arm, {"supervision": REFERENCE, **entry.knobs}) for entry in settings]
    return Ablation((*arms, BASELINE), layout)


def _default(config: Mapping[str, Any], name: str) -> float:
    value = config.get(name)
    if not isinstance(value, int | float):
        raise CvmError(f"{name} in the bundle's training configuration must be a number, got {shown(value)}")
    return float(value)


def _among(default: float, values: list[Any]) -> float | None:
    """The default if it is one of the values."""
    return default if default in values else None


@dataclass(frozen=True)
class AblationRequest(Setup):
    """Request for an ablation.

    Attributes:
        what: `pairs`, `eta` or `solver`; see `plan_ablation`.
        values: comma-separated; None: those of `VALUES`.
    """

    what: str = "pairs"
    values: str | None = None


def ablate(request: AblationRequest, *, execute: Executor, say: Callable[[str], None] = print) -> Result:
    """Run every value on every fold with every seed and report; see `carry_out`.

    Raises:
        CvmError: an unknown ablation, invalid values, fewer points than requested, or an error of `carry_out`.
    """
    config = read_train_config(request.bundle_folder)
    ablation = plan_ablation(request.what, request.values, config=config)
    knobs = parse_knobs(request.knobs, config, own=ablation.own, setting=request.setting, varied=ablation.layout.varied)
    study = Study(
        name=f"ablate-{request.what}",
        title=f"Ablation ({request.what})",
        arms=ablation.arms,
        layout=ablation.layout,
        config=config,
        knobs=knobs,
        facts={"ablation": request.what, "arms": ",".join(arm.name for arm in ablation.arms)},
        most_pairs=ablation.most_pairs,
    )
    return carry_out(request, study, execute=execute, say=say)
