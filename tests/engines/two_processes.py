"""What one process computes alone and two compute together: run as a script by each of the two."""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.handlers import from_engine
from torch import nn

from cvm_monai.data.epochs import ShardSampler, shard_of
from cvm_monai.data.store import PseudoLabelStore
from cvm_monai.engines import (
    LowestMetric,
    MaskDice,
    PartialCrossEntropyMetric,
    PointTrainer,
    PseudoLabelRenewal,
    SharedEvaluator,
    lower_is_better,
    shared_network,
)
from cvm_monai.networks import build_network
from cvm_monai.supervision.factory import build_supervision

SIDE = 16
METHODS = ("cvm", "full", "peng")


class Still(nn.Module):
    """A small U-Net whose normalisation stays in evaluation mode, so that no case depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.net = build_network("unet", channels=[4, 4, 4, 4, 4], normalisation="batch")

    def train(self, mode: bool = True) -> "Still":
        return super().train(False)

    def forward(self, x):
        return self.net(x)

    def features(self, x):
        return self.net.features(x)


def case(index: int) -> dict[str, Any]:
    """A case whose points, mask and pseudo-label differ in number from any other's; every third has no mask."""
    rng = np.random.default_rng(index)
    label = np.full((1, SIDE, SIDE), 255, np.uint8)
    for point in range(3 * index + 2):
        label[0, point, index] = point % 2
    mask = np.full_like(label, 255)
    if index % 3:
        mask[0] = rng.random((SIDE, SIDE)) > 0.3
    pseudo = np.full((1, SIDE, SIDE), -1, np.float32)
    pseudo[0, : 2 * index] = rng.random((2 * index, SIDE))
    return {
        "case_id": f"case-{index}",
        "image": torch.from_numpy(rng.random((3, SIDE, SIDE), dtype=np.float32)),
        "label": torch.from_numpy(label),
        "mask": torch.from_numpy(mask),
        "pseudo_label": torch.from_numpy(pseudo),
        "in_points": np.argwhere(label[0] == 1),
        "out_points": np.argwhere(label[0] == 0),
    }


def batch_of(indices) -> dict[str, Any]:
    cases = [case(index) for index in indices]
    tensors = {key: torch.stack([one[key] for one in cases]) for key in ("image", "label", "mask", "pseudo_label")}
    return tensors | {"case_id": [one["case_id"] for one in cases]}


def own(count: int) -> range:
    return shard_of(count, rank=idist.get_rank(), world=idist.get_world_size())


def train(network: nn.Module, batch: Any, *, method: str, steps: int = 3) -> SimpleNamespace:
    network, outputs = copy.deepcopy(network), []
    trainer = PointTrainer(
        supervision=build_supervision(method),
        device=torch.device("cpu"),
        max_epochs=steps,
        train_data_loader=[batch],
        network=shared_network(network),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output[0]))
    trainer.run()
    return SimpleNamespace(weights=network.state_dict(), outputs=outputs)


def trainings() -> dict[str, Any]:
    """Four cases, in one batch or shared out, and accumulated one by one."""
    torch.manual_seed(idist.get_rank())  # the first process' weights count
    network, found = Still(), {}
    for method in METHODS:
        found[method] = vars(train(network, batch_of(own(4)), method=method))
    found["accumulated"] = vars(train(network, [batch_of([index]) for index in own(4)], method="cvm"))
    return found


def statistics() -> dict[str, torch.Tensor]:
    """Running statistics of a network that trains on other cases in each process."""
    torch.manual_seed(0)
    network = build_network("unet", channels=[4, 4, 4, 4, 4], normalisation="batch")
    return train(network, batch_of(own(4)), method="partial_ce", steps=1).weights


PAPER = {"lam": 2.0, "solver": "aos", "iterations": 50, "combination": "mean", "contrast": "one_sided"}
PAPER |= {"centre": "none", "discriminant": 0.0}


def renewal(folder: Path, count: int) -> dict[str, Any]:
    """Pseudo-labels of some cases, and what is said of them."""
    torch.manual_seed(0)
    store = PseudoLabelStore(folder)
    report = PseudoLabelRenewal(
        network=Still(),
        supervision=build_supervision("cvm", constants={"cvm": PAPER}),  # on small images the defaults give no u
        dataset=Dataset([case(index) for index in range(count)]),
        store=store,
        device="cpu",
        workers=1,
        progress=False,
    ).renew(epoch=1)
    labels = {f"case-{index}": store.get(f"case-{index}") for index in range(count)}
    facts = (report.labelled, report.skipped, report.iterations, report.dice)
    return {"labels": labels, "facts": facts, "previews": [preview.item["case_id"] for preview in report.previews]}


def validation(count: int) -> dict[str, Any]:
    """The metrics of some cases, and how many of them this process saw."""
    torch.manual_seed(0)
    dataset = Dataset([case(index) for index in range(count)])
    seen = []
    evaluator = SharedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, num_workers=0, sampler=ShardSampler(dataset)),
        network=Still(),
        key_val_metric={"ce": PartialCrossEntropyMetric(output_transform=from_engine(["pred", "label"]))},
        additional_metrics={"dice": MaskDice()},
        metric_cmp_fn=lower_is_better,
    )
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: seen.extend(item["case_id"] for item in engine.state.batch)
    )
    evaluator.run()
    return {"metrics": dict(evaluator.state.metrics), "seen": seen}


def decision() -> float:
    """The best value where each process has another."""
    engine, lowest = Engine(lambda *_: None), LowestMetric(metric="score")
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(score=1.0 + idist.get_rank())
    )
    lowest.attach(engine)
    engine.run([0])
    return lowest.best


def failure() -> str:
    """The sentence where the last case alone is not finite."""
    batch = batch_of(own(4))
    for position, index in enumerate(own(4)):
        if index == 3:
            batch["image"][position] = torch.nan
    try:
        train(Still(), batch, method="partial_ce")
    except ValueError as error:
        return str(error)
    return "no error"


def everything(folder: Path) -> dict[str, Any]:
    return {
        "trainings": trainings(),
        "statistics": statistics(),
        "renewal of 5": renewal(folder / "five", 5),
        "renewal of 1": renewal(folder / "one", 1),
        "validation of 5": validation(5),
        "validation of 1": validation(1),
        "decision": decision(),
        "failure": failure(),
    }


if __name__ == "__main__":
    dist.init_process_group("gloo")
    idist.sync()
    results = everything(Path(sys.argv[1]))
    torch.save(results, Path(sys.argv[1]) / f"{idist.get_rank()}.pt")
    idist.finalize()
