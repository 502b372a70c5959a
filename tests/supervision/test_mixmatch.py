"""MixMatch on pixels: its parts by hand, its loss against plain steps on the same random numbers."""

import pytest
import torch
from torch import nn

from cvm_monai.supervision.mixmatch import Mixable, MixMatch, mix

EVEN = {"image_mean": (0.0, 0.0, 0.0), "image_std": (1.0, 1.0, 1.0)}


class PixelNetwork(nn.Module):
    """Logits (-w x, w x) of each pixel's first channel less .5; keeps what it is shown."""

    def __init__(self, weight=4.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.register_buffer("running", torch.tensor(0.0))
        self.shown = []

    def forward(self, x):
        self.shown.append(x)
        target = self.weight * (x[:, :1] - 0.5)
        return torch.cat([-target, target], dim=1)


def prepared(network, **constants) -> MixMatch:
    method = MixMatch(**(EVEN | constants))
    method.prepare(network, torch.optim.SGD(network.parameters(), lr=0.1))
    method.begin_epoch(epoch=3, max_epochs=4)  # t = 1/2
    return method


def batch_of(*, size=4, width=None, seed=0) -> dict[str, torch.Tensor]:
    image = torch.rand(2, 3, size, width or size, generator=torch.Generator().manual_seed(seed))
    label = torch.full((2, 1, size, width or size), 255, dtype=torch.uint8)
    label[:, 0, 0, 1], label[:, 0, 2, 2] = 1, 0
    return {"image": image, "label": label}


def test_mixing_by_hand():
    """Ratios 1, .75 and .5 of (1, 2, 4) with the order (1, 2, 0): (1, .75 * 2 + .25 * 4, .5 * 4 + .5 * 1)."""
    values = torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1, 1)
    counts = torch.tensor([True, False, True]).reshape(3, 1, 1, 1)
    mixed = mix(
        Mixable(images=values, targets=10 * values, counts=counts),
        order=torch.tensor([1, 2, 0]),
        ratio=torch.tensor([1.0, 0.75, 0.5]).reshape(3, 1, 1, 1),
    )
    assert mixed.images.flatten().tolist() == [1.0, 2.5, 2.5]
    assert mixed.targets.flatten().tolist() == [10.0, 25.0, 25.0]
    assert mixed.counts is counts


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [4, 6])
def test_targets_and_counts_before_mixing(width, seed):
    """X has its labels at the points and the guess elsewhere; each view has the guess, turned like its image."""
    torch.manual_seed(seed)
    network, batch = PixelNetwork(), batch_of(width=width)
    everything = prepared(network, jitter=0.0)._everything(network, batch)
    probability = torch.sigmoid(2 * 4.0 * (batch["image"][:, :1] - 0.5))
    squares = torch.cat([1 - probability, probability], dim=1) ** 2  # T = 1/2
    guess = squares / squares.sum(dim=1, keepdim=True)
    x, first, second = everything.targets.chunk(3)
    annotated = batch["label"] != 255
    known = annotated.expand_as(guess)
    torch.testing.assert_close(x[~known], guess[~known])
    assert x[:, :, 0, 1].tolist() == [[0, 1], [0, 1]]
    assert x[:, :, 2, 2].tolist() == [[1, 0], [1, 0]]
    assert torch.equal(everything.counts[:2], annotated)
    for view, targets, counts in zip(
        everything.images.chunk(3)[1:], (first, second), everything.counts.chunk(3)[1:], strict=True
    ):
        turns = [k for k in range(4) if (width == 4 or k % 2 == 0)]
        (k,) = [k for k in turns if torch.allclose(torch.rot90(batch["image"], k, (2, 3)), view)]
        torch.testing.assert_close(targets, torch.rot90(guess, k, (2, 3)))
        assert torch.equal(counts, torch.rot90(~annotated, k, (2, 3)))


def test_the_loss_is_that_of_what_the_network_was_shown():
    torch.manual_seed(0)
    network, batch = PixelNetwork(), batch_of()
    method = prepared(network, weight=8.0)
    kept = {}
    method._everything = lambda *arguments: kept.setdefault("all", MixMatch._everything(method, *arguments))
    terms = method.loss(network, batch)
    guessed, mixed = network.shown
    assert (guessed.shape[0], mixed.shape[0]) == (4, 6)
    everything = kept["all"]
    # which partner and ratio each mixture has, found from the images alone
    targets = torch.empty_like(everything.targets)
    for i in range(6):
        fits = []
        for j in range(6):
            away = everything.images[j] - everything.images[i]
            share = ((mixed[i] - everything.images[i]) * away).sum() / (away**2).sum().clamp(min=1e-12)
            fits.append(((mixed[i] - everything.images[i] - share * away).norm().item(), j, share))
        error, j, share = min(fits)
        assert error < 1e-4
        assert -1e-5 <= share <= 0.5 + 1e-5  # the first partner has the larger part
        targets[i] = (1 - share) * everything.targets[i] + share * everything.targets[j]
    log_y = torch.log_softmax(network(mixed), dim=1)
    annotated = everything.counts[:2, 0]
    cross = -(targets[:2] * log_y[:2]).sum(dim=1)[annotated].mean()
    brier = ((log_y.exp()[2:] - targets[2:]) ** 2).mean(dim=1)[everything.counts[2:, 0]].mean()
    assert set(terms) == {"mixed_ce", "mixed_brier"}
    assert terms["mixed_ce"].item() == pytest.approx(cross.item(), rel=1e-3)
    assert terms["mixed_brier"].item() == pytest.approx(8 * 0.5 * brier.item(), rel=1e-3)


def test_the_brier_term_grows_linearly_from_nothing():
    def brier(epoch):
        network = PixelNetwork()
        method = prepared(network)
        method.begin_epoch(epoch=epoch, max_epochs=4)
        torch.manual_seed(0)
        return method.loss(network, batch_of())["mixed_brier"].item()

    assert [brier(epoch) / brier(4) for epoch in (1, 2, 3)] == pytest.approx([0, 1 / 3, 2 / 3], rel=1e-5)


def test_the_guess_has_no_graph_but_the_loss_has():
    network = PixelNetwork()
    method = prepared(network)
    assert not method._everything(network, batch_of()).targets.requires_grad
    sum(method.loss(network, batch_of()).values()).backward()
    assert network.weight.grad.abs() > 0


def test_mixed_precision_does_not_lose_the_gradient_to_the_guess():
    """Autocast keeps the weights that it cast; those cast without a graph must not serve the pass that learns."""
    network = nn.Conv2d(3, 2, 1)
    method = prepared(network)
    gradients = []
    for enabled in (False, True):
        network.zero_grad()
        torch.manual_seed(0)
        with torch.autocast("cpu", enabled=enabled):
            loss = sum(method.loss(network, batch_of()).values())
        loss.backward()
        gradients.append(network.weight.grad.clone())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.1, atol=0.1 * gradients[0].abs().max().item())


def test_the_average_is_what_is_validated_and_it_forgets_the_start():
    network = PixelNetwork(weight=0.0)
    method = prepared(network)
    expected = running = 0.0
    for step, weight in enumerate([1.0, 2.0, 4.0], start=1):
        network.weight.data.fill_(weight)
        network.running.fill_(-weight)
        method.after_step(network, step)
        decay = (1 + step) / (10 + step)
        expected, running = decay * expected + (1 - decay) * weight, decay * running - (1 - decay) * weight
    weights = method.inference_weights()
    assert weights["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert weights["running"].item() == pytest.approx(running, rel=1e-6)
    for _ in range(2):
        method.after_step(network, 10**6)  # the decay is .999 by then
        expected = 0.999 * expected + 0.001 * 4
    assert method.inference_weights()["weight"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "constants, sentence",
    [
        ({"views": 0}, "views must be a whole number of at least 1, got 0"),
        ({"temperature": 0}, "temperature must lie in \\[0.01, 1\\], got 0"),
        ({"alpha": -1}, "alpha must be a finite number of at least 0.01, got -1"),
        ({"weight": None}, "weight must be a finite number of at least 0, got None"),
        ({"rampup": 2}, "rampup must lie in \\(0, 1\\], got 2"),
        ({"decay": 1.5}, "decay must lie in \\[0, 1\\], got 1.5"),
        ({"jitter": -0.1}, "jitter must lie in \\[0, 1\\], got -0.1"),
        ({"image_std": (1, 1, -1)}, "image_std must be a finite number greater than 0, got -1"),
    ],
)
def test_bad_constants_are_named(constants, sentence):
    with pytest.raises(ValueError, match=sentence):
        MixMatch(**constants)
