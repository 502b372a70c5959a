"""A frozen extractor from a file, its features on any grid, and the linear classifier of them."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks import build_network
from cvm_monai.networks.encoder import ResNet34Encoder
from cvm_monai.networks.frozen import FrozenExtractor, FrozenProbe, to_grid


def save_script(module: nn.Module, path: Path) -> str:
    """Write a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return str(path)


class Pooled(nn.Module):
    """The means over squares of 8 pixels and their doubles: six features at stride 8, with a batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.avg_pool2d(self.norm(x), 8)
        return torch.cat([pooled, 2 * pooled], dim=1)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_script(Pooled(), tmp_path_factory.mktemp("script") / "pooled.pt")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    torch.manual_seed(0)
    encoder = ResNet34Encoder(3, normalisation="batch").eval()
    path = tmp_path_factory.mktemp("resnet") / "r34.pth"
    torch.save({"state_dict": encoder.state_dict()}, path)
    return str(path), encoder


@torch.no_grad()
def test_resnet34_weights_give_the_map_of_layer_3(resnet: tuple[str, Any]) -> None:
    extractor, image = FrozenExtractor(resnet[0]), torch.rand(2, 3, 64, 96)
    assert extractor.channels == 256
    torch.testing.assert_close(extractor(image), resnet[1](image)[3])


def test_torchscript_gives_its_own_map_of_the_padded_image(pooled: str) -> None:
    image = torch.rand(2, 3, 70, 64)
    padded = functional.pad(image, [0, 0, 0, 26], mode="replicate")
    extractor = FrozenExtractor(pooled)
    assert extractor.channels == 6
    torch.testing.assert_close(extractor(image), Pooled().eval()(padded))


@pytest.mark.parametrize("size", [(64, 96), (16, 24)])
def test_on_a_grid_without_padding_features_are_interpolated(pooled: str, size: tuple[int, int]) -> None:
    extractor, image = FrozenExtractor(pooled), torch.rand(1, 3, 64, 96)
    expected = functional.interpolate(extractor(image), size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(extractor.on_grid(image, size), expected, atol=1e-5, rtol=0)


def test_what_was_padded_is_left_out_of_the_grid() -> None:
    """A ramp over 96 px, of which the image has 80 rows and 50 columns: each pixel keeps its own place."""
    centres = (torch.arange(96) + 0.5).reshape(1, 1, 96, 1)
    ramp = torch.cat([centres.expand(1, 1, 96, 96), centres.mT.expand(1, 1, 96, 96)], dim=1)
    rows, columns = to_grid(ramp, image=torch.zeros(1, 3, 80, 70), size=(80, 70))[0]
    torch.testing.assert_close(rows, (torch.arange(80) + 0.5)[:, None].expand(80, 70), atol=1e-3, rtol=0)
    torch.testing.assert_close(columns, (torch.arange(70) + 0.5).expand(80, 70), atol=1e-3, rtol=0)
    coarse = to_grid(ramp, image=torch.zeros(1, 3, 80, 70), size=(5, 5))[0, 0, :, 0]
    torch.testing.assert_close(coarse, torch.tensor([8.0, 24, 40, 56, 72]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["resnet", "pooled"])
def test_nothing_of_the_extractor_ever_changes(kind: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(kind)
    probe = FrozenProbe(extractor_path=found if kind == "pooled" else found[0]).train()
    before = {key: value.clone() for key, value in probe.state_dict().items()}
    optimizer = torch.optim.Adam(probe.parameters(), lr=0.1, weight_decay=0.1)
    probe(torch.rand(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    after = probe.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved == {"out.weight", "out.bias"}
    assert not any(module.training for module in probe.extractor.modules())
    assert probe.training


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 64), (65, 130)])
@torch.no_grad()
def test_the_probe_is_linear_in_feature_vectors_of_one_length(pooled: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    probe = build_network("frozen_probe", extractor_path=pooled).eval()
    image = torch.rand(2, 3, *size)
    logits, features = probe.features(image)
    assert logits.shape == (2, 2, *size) == (2, 2, *probe.output_shape(*size))
    assert features.shape == (2, 6, *size)
    assert probe.stride == 1
    coarse = probe.extractor(image).movedim(1, -1)
    vectors = coarse / coarse.square().mean(dim=-1, keepdim=True).sqrt()
    classified = vectors @ probe.out.weight[:, :, 0, 0].T + probe.out.bias
    torch.testing.assert_close(logits, to_grid(classified.movedim(-1, 1), image=image, size=size), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features, probe.extractor.on_grid(image, size))
    torch.testing.assert_close(probe(image), logits)


def test_weights_go_into_a_file_and_back(pooled: str, tmp_path: Path) -> None:
    first, second = (FrozenProbe(extractor_path=pooled).eval() for _ in range(2))
    torch.save(first.state_dict(), tmp_path / "model.pt")
    second.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(first(image), second(image))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "a frozen extractor is needed: give its file, timm:NAME or imagenet, by --extractor_path"),
        ({"extractor_path": "nowhere.pt"}, r"there is no frozen extractor at nowhere\.pt"),
        ({"extractor_path": "x", "channels": [4] * 5}, "its extractor and one layer: drop network_channels"),
        ({"extractor_path": "x", "encoder_weights": "y"}, "its extractor and one layer: drop encoder_weights"),
        ({"extractor_path": "x", "in_channels": 4}, "in_channels must be 3 for a frozen extractor, not 4"),
        ({"extractor_path": "x", "out_channels": 1}, "out_channels must be at least 2"),
    ],
)
def test_arguments_that_make_no_probe_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network("frozen_probe", **arguments)


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_a_file_that_is_neither_weights_nor_torchscript_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.pt cannot be read as weights alone .* is saved as TorchScript"):
        FrozenExtractor(tmp_path / "bad.pt")


def test_damaged_torchscript_is_refused(pooled: str, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "empty.pt", "w") as archive:
        archive.writestr("empty/constants.pkl", b"")
    with pytest.raises(ValueError, match=r"empty\.pt cannot be read as TorchScript"):
        FrozenExtractor(tmp_path / "empty.pt")


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, 3, 40, 40)


class Flat(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


class Several(nn.Module):
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x]


@pytest.mark.parametrize(
    "module, message",
    [
        (Fixed(), r"failed on an image of \(1, 3, 64, 64\): it must take any sides that are multiples of 32 from 64"),
        (Flat(), r"must give features \(B, C, h, w\), not \(1, 3\)"),
        (Several(), r"must give features \(B, C, h, w\), not list"),
    ],
)
def test_networks_that_are_no_extractor_are_refused(module: nn.Module, message: str, tmp_path: Path) -> None:
    path = save_script(module, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=message):
        FrozenExtractor(path)
