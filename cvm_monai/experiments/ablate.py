"""The ablations from one call: prepare, train and evaluate what is missing, report."""

from collections.abc import Callable
from dataclasses import dataclass

from cvm_monai.experiments.ablation import plan_ablation
from cvm_monai.experiments.compare import Result, Setup, Study, carry_out
from cvm_monai.experiments.execute import Executor
from cvm_monai.experiments.knobs import parse_knobs, read_train_config


@dataclass(frozen=True)
class AblationRequest(Setup):
    """An ablation.

    Attributes:
        what: `pairs`, `eta` or `solver`; see `plan_ablation`.
        values: with commas between them; None: those of `VALUES`.
    """

    what: str = "pairs"
    values: str | None = None


def ablate(request: AblationRequest, *, execute: Executor, say: Callable[[str], None] = print) -> Result:
    """Every value on every fold with every seed; see `carry_out`.

    Raises:
        CvmError: an unknown ablation, values that cannot be, fewer points than asked for, and what `carry_out`
            refuses.
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
