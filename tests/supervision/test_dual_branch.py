"""Two decoders: what each is given, what they teach each other, what is trained and what is saved."""

import math

import pytest
import torch
from torch import nn

from cvm_monai.losses import mixed_pseudo_label, partial_cross_entropy, pseudo_label_dice
from cvm_monai.networks import build_network
from cvm_monai.supervision.dual_branch import DualBranch


class Toy(nn.Module):
    """Decoders that add a bias to the one map of the encoder, which is the image's first channel."""

    def __init__(self, bias=0.0):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(bias))

    def encode(self, x):
        return [x[:, :1]]

    def decode(self, maps, height, width):
        target = maps[0][:, :, :height, :width] + self.bias
        return torch.cat([torch.zeros_like(target), target], dim=1), target

    def new_decoder(self):
        return Toy(bias=-1.0)

    def output_shape(self, height, width):
        return height, width


def batch_of(size=64, seed=0) -> dict[str, torch.Tensor]:
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return {"image": image}


def with_labels(batch, shape):
    label = torch.full((2, 1, *shape), 255, dtype=torch.uint8)
    label[:, 0, 0, 0], label[:, 0, -1, -1] = 1, 0
    return batch | {"label": label}


def prepared(network, **constants):
    method = DualBranch(**constants)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=0.1)
    method.prepare(network, optimiser)
    return method, optimiser


def test_two_by_two_by_hand():
    """Without dropout y1 = sigmoid(x) and y2 = sigmoid(x - 1): t is 1 at x = 3, 0 at x <= 0, whatever the share."""
    network = Toy()
    method, _ = prepared(network, dropout=0.0, weight=0.5)
    x = [[3.0, -2.0], [0.0, -1.0]]
    image = torch.tensor(x).expand(1, 3, 2, 2)
    label = torch.tensor([[[[1, 255], [255, 0]]]], dtype=torch.uint8)
    terms = method.loss(network, {"image": image, "label": label})

    def y(value):
        return 1 / (1 + math.exp(-value))

    dice, points = [], []
    for bias in (0.0, -1.0):
        one = [y(value + bias) for row in x for value in row]
        target = 1 - (2 * one[0]) / (sum(p * p for p in one) + 1)
        ground = 1 - (2 * sum(1 - p for p in one[1:])) / (sum((1 - p) ** 2 for p in one) + 3)
        dice.append((target + ground) / 2)
        points.append(-(math.log(one[0]) + math.log(1 - one[3])) / 2)
    assert set(terms) == {"partial_ce", "pseudo_label_dice"}
    assert terms["partial_ce"].item() == pytest.approx(sum(points) / 2, rel=1e-4)
    assert terms["pseudo_label_dice"].item() == pytest.approx(0.5 * sum(dice) / 2, rel=1e-4)


def test_the_share_is_drawn_anew_by_torch_s_generator():
    """At x = .7 the decoders, with biases 0 and -1, say .67 and .43: the label is 1 where b > .31."""
    network = Toy()
    method, _ = prepared(network, dropout=0.0)
    batch = {"image": torch.full((1, 3, 1, 1), 0.7), "label": torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)}
    maps = network.encode(batch["image"])
    first, second = network.decode(maps, 1, 1)[0], method.decoder.decode(maps, 1, 1)[0]
    losses = []
    for share in (0.0, 1.0):
        label = mixed_pseudo_label(first, second, share=share)
        losses.append(0.5 * (pseudo_label_dice(first, label) + pseudo_label_dice(second, label)).item() / 2)
    found = []
    for seed in [*range(20), *range(20)]:
        torch.manual_seed(seed)
        found.append(method.loss(network, batch)["pseudo_label_dice"].item())
    assert found[:20] == found[20:]
    assert sorted(set(found)) == pytest.approx(sorted(losses), rel=1e-5)


@pytest.mark.parametrize("name", ["resnet34_unet", "unet", "two_component", "timm_unet"])
def test_every_network_trains_both_decoders_and_keeps_its_keys(name):
    torch.manual_seed(0)
    named = {"extractor_path": "imagenet", "pretrained": False} if name == "timm_unet" else {}
    network = build_network(name, channels=(8, 8, 8, 8, 8), **named)
    keys = list(network.state_dict())
    method, optimiser = prepared(network)
    batch = with_labels(batch_of(), network.output_shape(64, 64))
    before = [parameter.detach().clone() for parameter in method.decoder.parameters()]
    losses = []
    for step in range(1, 9):
        optimiser.zero_grad()
        loss = sum(method.loss(network.train(), batch).values())
        loss.backward()
        assert all(parameter.grad is not None for parameter in [*network.parameters(), *method.decoder.parameters()])
        optimiser.step()
        method.after_step(network, step)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = [not torch.equal(old, new) for old, new in zip(before, method.decoder.parameters(), strict=True)]
    assert all(changed)
    assert list(network.state_dict()) == keys
    build_network(name, channels=(8, 8, 8, 8, 8), **named).load_state_dict(network.state_dict())


def test_the_second_decoder_s_weights_join_the_optimiser_with_its_own_rates():
    network = build_network("unet", channels=(4, 4, 4, 4, 4))
    method, optimiser = prepared(network)
    first, second = optimiser.param_groups
    assert {id(p) for p in second["params"]} == {id(p) for p in method.decoder.parameters()}
    assert (second["lr"], second["weight_decay"]) == (first["lr"], first["weight_decay"]) == (0.01, 0.1)


def test_only_the_second_decoder_loses_channels():
    class Listener(Toy):
        def __init__(self):
            super().__init__()
            self.given = []

        def encode(self, x):
            return [torch.ones(2, 400, 2, 2), torch.ones(2, 300, 1, 1)]

        def decode(self, maps, height, width):
            self.given = maps
            return super().decode([maps[0][:, :1]], height, width)

        def new_decoder(self):
            return Listener()

    torch.manual_seed(0)
    network = Listener()
    method, _ = prepared(network)
    method.loss(network, with_labels({"image": torch.zeros(2, 3, 2, 2)}, (2, 2)))
    assert all((part == 1).all() for part in network.given)
    for part in method.decoder.given:
        assert set(part.unique().tolist()) == {0.0, 2.0}  # kept channels are doubled
        assert (part == part[:, :, :1, :1]).all()  # whole channels
        assert 0.4 < (part == 0).float().mean() < 0.6


def test_partial_ce_is_the_mean_over_both_decoders():
    network = Toy()
    method, _ = prepared(network, dropout=0.0)
    batch = with_labels(batch_of(size=4), (4, 4))
    both = [network.decode([batch["image"][:, :1]], 4, 4)[0], method.decoder.decode([batch["image"][:, :1]], 4, 4)[0]]
    expected = sum(partial_cross_entropy(logits, batch["label"]).item() for logits in both) / 2
    assert method.loss(network, batch)["partial_ce"].item() == pytest.approx(expected, rel=1e-6)


def test_a_network_without_a_decoder_of_its_own_is_refused():
    network = nn.Conv2d(3, 2, 1)
    with pytest.raises(ValueError, match=r"dual_branch needs a network with encode, decode, new_decoder.*, not Conv2d"):
        prepared(network)


def test_a_distributed_training_is_refused():
    network = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    with pytest.raises(ValueError, match=r"dual_branch trains in one process only: leave out multi_gpu_train\.yaml"):
        DualBranch().prepare(network, None)


@pytest.mark.parametrize(
    "constants, sentence",
    [
        ({"weight": -0.5}, "weight must be a finite number of at least 0, got -0.5"),
        ({"dropout": 1}, "dropout must lie in \\[0, 0.99\\], got 1"),
    ],
)
def test_bad_constants_are_named(constants, sentence):
    with pytest.raises(ValueError, match=sentence):
        DualBranch(**constants)
