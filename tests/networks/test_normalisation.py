"""How networks normalise: which layers, what other images change, and what becomes of an encoder's statistics."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cvm_monai.knobs import NetworkName, Normalisation
from cvm_monai.networks import build_network
from cvm_monai.networks.blocks import norm_layer
from cvm_monai.networks.normalisation import encoder_normalisation
from cvm_monai.networks.state import load_weights

NAMES: tuple[NetworkName, ...] = ("resnet34_unet", "unet", "two_component")
LAYERS = {"instance": nn.InstanceNorm2d, "group": nn.GroupNorm, "batch": nn.BatchNorm2d}
WIDTHS = (8, 8, 8, 8, 8)


def norms(network: nn.Module) -> list[nn.Module]:
    return [part for part in network.modules() if isinstance(part, tuple(LAYERS.values()))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", LAYERS)
def test_every_normalisation_of_a_network_and_of_its_second_decoder_is_the_chosen_one(
    name: NetworkName, kind: Normalisation
) -> None:
    network: Any = build_network(name, channels=WIDTHS, normalisation=kind)
    for part in (network, network.new_decoder()):
        found = norms(part)
        assert found
        assert all(type(layer) is LAYERS[kind] for layer in found)
        assert all(layer.weight is not None and layer.bias is not None for layer in found)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["instance", "group"])
def test_an_image_is_normalised_by_itself_in_training_and_afterwards_alike(
    name: NetworkName, kind: Normalisation
) -> None:
    torch.manual_seed(0)
    network = build_network(name, channels=WIDTHS, normalisation=kind)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        together, alone, later = network.train()(images), network(images[:1]), network.eval()(images[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-3, rtol=0)
    torch.testing.assert_close(alone, later, atol=1e-5, rtol=0)


def test_a_stronger_stain_leaves_the_features_of_an_instance_normalised_network_as_they_are() -> None:
    """The first normalisation takes off twice the contrast of the image."""
    torch.manual_seed(0)
    network: Any = build_network("unet", channels=WIDTHS, normalisation="instance").eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        convolution, norm = network.down1[0], network.down1[1]
        first, second = (norm(convolution(x)) for x in (image, 2 * image))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)


def test_groups_divide_any_width() -> None:
    assert [norm_layer("group", channels).num_groups for channels in (4, 8, 12, 48, 7)] == [4, 8, 4, 8, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["resnet34_unet", "two_component"])
@pytest.mark.parametrize(
    "choice, layer, frozen",
    [
        (None, nn.BatchNorm2d, True),
        ("frozen", nn.BatchNorm2d, True),
        ("batch", nn.BatchNorm2d, False),
        ("instance", nn.InstanceNorm2d, False),
    ],
)
def test_an_encoder_with_weights_keeps_trains_or_replaces_its_statistics(tmp_path, name, choice, layer, frozen) -> None:
    donor: Any = build_network(name, channels=WIDTHS, normalisation="batch")
    donor.encoder.bn1.running_mean.fill_(3.0)
    donor.encoder.bn1.weight.data.fill_(0.5)
    torch.save(donor.encoder.state_dict(), tmp_path / "weights.pt")
    network: Any = build_network(
        name, channels=WIDTHS, encoder_weights=tmp_path / "weights.pt", encoder_norm=choice
    ).train()
    assert type(network.encoder.bn1) is layer
    assert float(network.encoder.bn1.weight.detach()[0]) == 0.5  # the scale is the weights' in each case
    decoder = network.new_decoder()
    assert not any(isinstance(part, _BatchNorm) for part in norms(decoder))  # what starts at random is by instance
    if layer is nn.BatchNorm2d:
        network(torch.rand(2, 3, 64, 64))
        assert bool((network.encoder.bn1.running_mean == 3.0).all()) is frozen


def test_a_record_rebuilds_an_encoder_that_had_weights_without_the_weights() -> None:
    trained = build_network("resnet34_unet", channels=WIDTHS, encoder_norm="frozen")
    assert "encoder.bn1.running_mean" in trained.state_dict()
    assert "detail.1.running_mean" not in trained.state_dict()


def test_an_encoder_is_as_the_rest_where_it_starts_at_random() -> None:
    assert encoder_normalisation("group", None, with_weights=False) == ("group", False)
    assert encoder_normalisation("group", None, with_weights=True) == ("batch", True)
    with pytest.raises(ValueError, match="encoder_norm must be one of batch, frozen, instance, got 'layer'"):
        encoder_normalisation("group", "layer", with_weights=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="normalisation must be one of instance, group, batch, got 'layer'"):
        build_network("unet", normalisation="layer")  # type: ignore[arg-type]


def test_weights_of_another_normalisation_are_refused_by_name(tmp_path) -> None:
    torch.save(build_network("unet", channels=WIDTHS, normalisation="batch").state_dict(), tmp_path / "model.pt")
    network = build_network("unet", channels=WIDTHS, normalisation="instance")
    with pytest.raises(ValueError, match=r"were trained with --normalisation batch.*is built with another"):
        load_weights(network, tmp_path / "model.pt")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"were trained without running statistics.*--normalisation instance or group"):
        load_weights(build_network("unet", channels=WIDTHS, normalisation="batch"), tmp_path / "model.pt")
