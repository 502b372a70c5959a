"""Patch-wise features and multi-stage back-propagation against autograd on one graph and on the whole image."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from cvm_monai.networks.encoder import Layer3, ResNet34Encoder
from cvm_monai.networks.multi_stage import in_one_graph, multi_stage, plan_patches

RELATIVE = 1e-5
"""What is promised; float64 keeps far below it."""


class Small(nn.Module):
    """Stride 4. A feature sees 11 px: 5 before its first pixel (4 r) and 5 after it."""

    def __init__(self, *, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.third = nn.Conv2d(6, 5, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(torch.tanh(self.norm(self.first(x))))
        return self.third(self.dropout(torch.tanh(x)))


def make(**settings: Any) -> Small:
    torch.manual_seed(0)
    return Small(**settings).double()


def an_image(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator)


def gradients(module: nn.Module, image: torch.Tensor, features_of: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Features, and the gradients of the image and of every parameter, of one function of the features."""
    image = image.clone().requires_grad_()
    module.zero_grad()
    torch.manual_seed(5)
    features = features_of(image)
    ramp = torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    (features * ramp + features.square()).sum().backward()
    return features.detach(), [image.grad, *(parameter.grad.clone() for parameter in module.parameters())]


def check_equal(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert float(other.norm()) > 0
        assert float((one - other).norm() / other.norm()) < RELATIVE


def test_patches_are_read_with_their_halo_and_kept_without_it() -> None:
    first, second = plan_patches(32, 48, stride=16, patch_size=32, halo=16)
    assert (first.read, first.keep, first.place) == (
        (slice(0, 32), slice(0, 32)),
        (slice(0, 2), slice(0, 1)),
        (slice(0, 2), slice(0, 1)),
    )
    assert (second.read, second.keep, second.place) == (
        (slice(0, 32), slice(0, 48)),
        (slice(0, 2), slice(1, 3)),
        (slice(0, 2), slice(1, 3)),
    )


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (80, 80), (176, 1040), (1040, 48)])
@pytest.mark.parametrize("halo", [0, 32, 288])
def test_the_kept_parts_cover_the_map_once_and_lie_where_they_were_read(size: tuple[int, int], halo: int) -> None:
    positions = torch.arange(size[0] * size[1]).view(size)
    covered = torch.full((size[0] // 16, size[1] // 16), -1)
    for patch in plan_patches(*size, stride=16, patch_size=64, halo=halo):
        assert (covered[patch.place] == -1).all()
        covered[patch.place] = positions[patch.read][::16, ::16][patch.keep]
        assert max(part.stop - part.start for part in patch.place) <= 64 // 16
    assert torch.equal(covered, positions[::16, ::16])


@pytest.mark.parametrize("size", [(36, 52), (16, 100)])
def test_gradients_are_those_of_the_same_patches_in_one_graph(size: tuple[int, int]) -> None:
    """With batch statistics and dropout: both passes see the same."""
    patches = plan_patches(*size, stride=4, patch_size=16, halo=4)
    results, norms = [], []
    for way in (in_one_graph, multi_stage):
        module = make(norm=True, dropout=0.3).train()
        results.append(gradients(module, an_image(*size), lambda x, way=way, module=module: way(x, module, patches)))
        norms.append(module.norm)
    torch.testing.assert_close(results[1][0], results[0][0])
    check_equal(results[1][1], results[0][1])
    assert int(norms[1].num_batches_tracked) == len(patches)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(norms[1], name), getattr(norms[0], name))
    assert norms[1].momentum == 0.1


@pytest.mark.parametrize("size", [(36, 52), (20, 100)])
def test_with_a_halo_of_the_reach_features_and_gradients_are_those_of_the_whole_image(size: tuple[int, int]) -> None:
    module, image = make(norm=True).eval(), an_image(*size)
    expected = gradients(module, image, module)
    for halo, equal in ((8, True), (0, False)):
        patches = plan_patches(*size, stride=4, patch_size=16, halo=halo)
        found = gradients(module, image, lambda x, patches=patches: multi_stage(x, module, patches))
        assert torch.allclose(found[0], expected[0]) == equal
        if equal:
            check_equal(found[1], expected[1])


def test_random_numbers_after_the_backward_pass_are_those_of_a_plain_one() -> None:
    patches, after = plan_patches(16, 32, stride=4, patch_size=16, halo=0), []
    for way in (in_one_graph, multi_stage):
        module = make(dropout=0.5).train()
        gradients(module, an_image(16, 32), lambda x, way=way, module=module: way(x, module, patches))
        after.append(torch.rand(3))
    assert torch.equal(*after)


@pytest.fixture(scope="module")
def encoder() -> ResNet34Encoder:
    """Random weights with running statistics of an image: a normalisation that normalises where it is frozen."""
    torch.manual_seed(0)
    encoder = ResNet34Encoder(3, with_layer4=False, normalisation="batch").double()
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    encoder.train()(an_image(128, 128))
    return encoder.eval()


def test_a_halo_of_288_makes_the_resnet34_s_gradients_those_of_the_whole_image(encoder: ResNet34Encoder) -> None:
    """A strip whose middle patches end at no border of it; the reach is 273 px."""
    layer3, image = Layer3(encoder), an_image(32, 912)[:1]
    patches = plan_patches(32, 912, stride=16, patch_size=256, halo=288)
    assert [patch.read[1] for patch in patches] == [slice(0, 512), slice(0, 736), slice(160, 912), slice(384, 912)]
    expected = gradients(layer3, image, lambda x: encoder(x)[3])
    found = gradients(layer3, image, lambda x: multi_stage(x, layer3, patches))
    torch.testing.assert_close(found[0], expected[0])
    check_equal(found[1], expected[1])


@torch.no_grad()
def test_the_reach_of_layer3_is_273_px_to_either_side() -> None:
    """Positive weights, so that nothing can cancel: a bright column shows wherever it is seen at all."""
    plain = ResNet34Encoder(3, with_layer4=False, normalisation="batch").double().eval()
    for parameter in plain.parameters():
        nn.init.constant_(parameter, 0.01)
    image = torch.ones(5, 3, 16, 656, dtype=torch.float64)
    for row, column in enumerate((320 - 274, 320 - 273, 320 + 273, 320 + 274)):
        image[row, :, :, column] = 1e30
    *bright, dark = Layer3(plain)(image)[:, 0, 0, 20].tolist()
    assert [value != dark for value in bright] == [False, True, True, False]


def test_nothing_but_the_image_the_map_and_the_weights_is_held(encoder: ResNet34Encoder) -> None:
    """Bytes that autograd holds between the passes: twice the image takes no more than the image itself has more."""

    def held(width: int, way: Any) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = way(an_image(64, width))
        assert features.requires_grad
        return sum(sizes.values())

    layer3 = Layer3(encoder)

    def by_patch(x: torch.Tensor) -> torch.Tensor:
        return multi_stage(x, layer3, plan_patches(64, x.shape[-1], stride=16, patch_size=64, halo=16))

    image = 2 * 3 * 64 * 256 * 8
    assert held(512, by_patch) - held(256, by_patch) == image
    assert held(512, layer3) - held(256, layer3) > 20 * image


def test_mixed_precision_is_that_of_the_forward_pass() -> None:
    patches, results = plan_patches(16, 48, stride=4, patch_size=16, halo=4), []
    for way in (in_one_graph, multi_stage):
        module = make().float()

        def features_of(x: torch.Tensor, way: Any = way, module: nn.Module = module) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return way(x, module, patches)

        results.append(gradients(module, an_image(16, 48).float(), features_of))
    assert results[1][0].dtype == torch.bfloat16
    assert torch.equal(results[1][0], results[0][0])
    for one, other in zip(results[1][1], results[0][1], strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02 * float(other.abs().max()))


def test_a_later_use_of_the_weights_under_the_same_autocast_has_its_gradient() -> None:
    """Autocast would hand out the converted weights of the pass without a graph again."""
    module, image = make().float(), an_image(16, 32).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        multi_stage(image, module, plan_patches(16, 32, stride=4, patch_size=16, halo=4))
        later = module(image)
    later.sum().backward()
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in module.parameters())


def test_weights_that_do_not_learn_get_no_gradient() -> None:
    module = make()
    module.first.requires_grad_(False)
    multi_stage(an_image(16, 32), module, plan_patches(16, 32, stride=4, patch_size=16, halo=4)).sum().backward()
    assert module.first.weight.grad is None
    assert float(module.third.weight.grad.abs().max()) > 0


def test_weights_changed_between_the_passes_are_an_error() -> None:
    module = make()
    features = multi_stage(an_image(16, 32), module, plan_patches(16, 32, stride=4, patch_size=16, halo=4))
    with torch.no_grad():
        module.second.weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        features.sum().backward()


@pytest.fixture
def one_process() -> Iterator[None]:
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class ByPatch(nn.Module):
    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return multi_stage(x, self.extractor, plan_patches(16, 48, stride=4, patch_size=16, halo=8))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.usefixtures("one_process")
def test_a_distributed_training_reduces_each_gradient_once() -> None:
    """Its hook on each parameter sees the sum over the patches."""
    module, image = make(), an_image(16, 48)
    expected = gradients(module, image, module)[1]
    wrapped = nn.parallel.DistributedDataParallel(ByPatch(module))
    reduced: list[torch.Tensor] = []

    def hook(_, bucket):  # its annotations, if it had any, would have to be torch's own
        reduced.extend(part.clone() for part in bucket.gradients())
        future: Any = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    wrapped.register_comm_hook(None, hook)
    found = gradients(module, image, wrapped)[1]
    check_equal(found, expected)
    assert sorted(float(part.norm()) for part in reduced) == pytest.approx(
        sorted(float(part.norm()) for part in expected[1:])
    )
