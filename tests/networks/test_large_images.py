"""The two-component network on large images: checkpointing, patches, a frozen normalisation, and their knobs."""

from typing import Any

import pytest
import torch
from torch import nn

from cvm_monai.knobs import EncoderNorm
from cvm_monai.networks import LargeImages, build_network


def make(*, encoder_norm: EncoderNorm | None = None, **settings: Any) -> Any:
    """Normalised by batch, the only normalisation with statistics to keep."""
    torch.manual_seed(0)
    return build_network(
        "two_component",
        channels=(8, 8, 8, 8, 8),
        normalisation="batch",
        encoder_norm=encoder_norm,
        large_images=LargeImages(**settings),
    )


def step(network: Any, image: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Logits, gradients and buffers after a forward and a backward pass."""
    logits, features = network.features(image)
    (logits.square().sum() + features.sum()).backward()
    named = {name: parameter.grad for name, parameter in network.named_parameters()}
    return logits.detach(), named, {name: buffer.clone() for name, buffer in network.named_buffers()}


@pytest.mark.parametrize("training", [True, False])
def test_checkpointing_changes_no_bit(training: bool) -> None:
    """Nor the running statistics, which are updated once."""
    image = torch.rand(1, 3, 70, 90)
    plain, checkpointed = (step(make(extraction=way).train(training), image) for way in ("whole", "checkpointed"))
    assert torch.equal(checkpointed[0], plain[0])
    for found, expected in zip(checkpointed[1:], plain[1:], strict=True):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert int(checkpointed[2]["encoder.layer1.0.bn1.num_batches_tracked"]) == int(training)


def test_patches_with_the_full_halo_train_as_the_whole_image_does() -> None:
    """An odd size, padded inside; with the statistics in place, as where the normalisation is frozen."""
    image = torch.rand(1, 3, 30, 420, dtype=torch.float64)
    whole = step(make().double().eval(), image)
    patches = step(make(extraction="multi_stage", patch_size=128, halo=288).double().eval(), image)
    torch.testing.assert_close(patches[0], whole[0])
    for name, expected in whole[1].items():
        assert float((patches[1][name] - expected).norm()) <= 1e-5 * float(expected.norm()), name


@pytest.mark.parametrize("size", [(33, 47), (65, 130), (200, 50)])
def test_odd_sizes_keep_the_promised_shape_and_train(size: tuple[int, int]) -> None:
    network = make(extraction="multi_stage", patch_size=64, halo=16).train()
    logits, named, _ = step(network, torch.rand(1, 3, *size))
    assert logits.shape == (1, 2, *network.output_shape(*size))
    assert all(gradient is not None for gradient in named.values())
    assert float(named["encoder.conv1.weight"].abs().max()) > 0


@torch.no_grad()
def test_an_image_of_one_patch_is_extracted_whole() -> None:
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(make(extraction="multi_stage", patch_size=64, halo=16).eval()(image), make().eval()(image))


def test_a_frozen_normalisation_keeps_its_statistics_while_its_weights_learn() -> None:
    network = make(encoder_norm="frozen").train()
    before = {name: buffer.clone() for name, buffer in network.encoder.named_buffers()}
    step(network, torch.rand(1, 3, 64, 64))
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.encoder.named_buffers())
    assert float(network.encoder.bn1.weight.grad.abs().max()) > 0
    assert int(network.unet.down1[1].num_batches_tracked) == 1  # the U-Net's own goes on
    assert network.training
    assert not network.encoder.bn1.training


def test_one_state_dict_serves_every_way() -> None:
    assert list(make(extraction="multi_stage").state_dict()) == list(make().state_dict())


def test_a_network_for_large_images_can_be_scripted() -> None:
    network = make(extraction="multi_stage", patch_size=64, halo=288).eval()
    image = torch.rand(1, 3, 64, 160)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"extraction": "tiled"}, "extraction must be one of whole, checkpointed, multi_stage, got 'tiled'"),
        ({"patch_size": 48}, "patch_size must be a multiple of 16 of at least 64 pixels, got 48"),
        ({"patch_size": 1000}, "patch_size must be a multiple of 16 .*, got 1000"),
        ({"patch_size": 512.0}, r"patch_size must be a multiple of 16 .*, got 512\.0"),
        ({"halo": -16}, "halo must be a multiple of 16 of at least 0 pixels, got -16"),
        ({"halo": 100}, "halo must be a multiple of 16 .*, got 100"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LargeImages(**settings)


def test_the_unet_s_gradient_reaches_the_encoder_through_patches_in_mixed_precision() -> None:
    network: nn.Module = make(extraction="multi_stage", patch_size=64, halo=32).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(torch.rand(1, 3, 64, 200))
    logits.float().square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
