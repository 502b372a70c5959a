"""Extractors by name: what is refused without timm's help, and, where timm is installed, what a transformer gives."""

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from cvm_monai.networks import FeatureStore, build_network
from cvm_monai.networks.extractor_files import absolute_extractor, checked_extractor
from cvm_monai.networks.frozen import FrozenExtractor
from cvm_monai.networks.timm_extractor import TimmExtractor

TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def timm() -> Any:
    """The library; it needs a torchvision that fits torch, without which it does not start."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"timm is not usable here: {error}")
    return timm


@pytest.fixture(scope="module")
def tiny(timm: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """Weights of a small transformer with a classifier, and the network that they are of."""
    torch.manual_seed(1)
    network = timm.create_model(TINY, pretrained=False, num_classes=7, dynamic_img_size=True).eval()
    path = tmp_path_factory.mktemp("timm") / "tiny.pth"
    torch.save({"state_dict": network.state_dict()}, path)
    return str(path), network


@pytest.fixture
def unusable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets `import timm` fail in a way of one's own."""

    class Finder:
        error: Exception

        def find_spec(self, name: str, *_: Any) -> None:
            if name == "timm":
                raise self.error

    finder = Finder()
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    return finder


@pytest.mark.parametrize(
    "error, message",
    [
        (
            ModuleNotFoundError("No module named 'timm'", name="timm"),
            r"is not installed: pip install 'cvm-monai\[vit\]'",
        ),
        (ModuleNotFoundError("No module named 'torchvision'", name="torchvision"), "cannot be imported .*torchvision"),
        (
            RuntimeError("operator torchvision::nms does not exist"),
            "timm cannot be imported .*: install a torchvision of",
        ),
    ],
)
def test_without_a_usable_timm_it_says_what_to_install(unusable: Any, error: Exception, message: str) -> None:
    unusable.error = error
    for ask in (checked_extractor, FrozenExtractor):
        with pytest.raises(ValueError, match=message):
            ask(f"timm:{TINY}")


def test_an_unknown_name_is_answered_by_the_three_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a library that knows four names."""
    names = ["resnet50", "vit_small_patch16_224", "vit_tiny_patch16_224", "vit_base_patch16_224"]
    library: Any = ModuleType("timm")
    library.__version__, library.is_model, library.list_models = "1.0", names.__contains__, lambda: names
    monkeypatch.setitem(sys.modules, "timm", library)
    assert checked_extractor("timm:resnet50") == "timm:resnet50"
    with pytest.raises(ValueError, match=r"timm 1\.0 has no network 'vit_smal_patch16_224': did you mean") as caught:
        checked_extractor("timm:vit_smal_patch16_224")
    assert str(caught.value).endswith("vit_small_patch16_224, vit_base_patch16_224, vit_tiny_patch16_224?")
    with pytest.raises(ValueError, match=r"there are no weights of the extractor at nowhere\.pt"):
        checked_extractor("timm:resnet50", "nowhere.pt")


def test_weights_are_for_names_alone(tmp_path: Path) -> None:
    (tmp_path / "net.pt").touch()
    with pytest.raises(ValueError, match="are in that file: drop --extractor_weights"):
        checked_extractor(str(tmp_path / "net.pt"), str(tmp_path / "net.pt"))


def test_a_record_keeps_names_as_they_are_and_files_from_the_root_on(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_extractor("timm:resnet50") == "timm:resnet50"
    assert absolute_extractor("net.pt") == str(tmp_path / "net.pt")
    assert absolute_extractor(None) is None


@torch.no_grad()
def test_the_map_holds_each_patch_s_token_at_its_place(tiny: tuple[str, Any]) -> None:
    path, network = tiny
    extractor, image = FrozenExtractor(f"timm:{TINY}", weights=path), torch.rand(2, 3, 64, 96)
    tokens = network.forward_features(image)
    assert tokens.shape == (2, 1 + 4 * 6, 192)  # a class token and 24 patches
    found = extractor(image)
    assert found.shape == (2, 192, 4, 6)
    for row in range(4):
        for column in range(6):
            torch.testing.assert_close(found[:, :, row, column], tokens[:, 1 + 6 * row + column])
    assert (extractor.grid, extractor.stride) == (32, 16)


@torch.no_grad()
def test_register_tokens_and_patches_of_fourteen_pixels_are_known(timm: Any) -> None:
    """An image of 100 x 60 is padded to 126 x 84, the next multiples of 42."""
    torch.manual_seed(0)
    name = "vit_small_patch14_reg4_dinov2"
    with pytest.warns(UserWarning, match="has random weights"):
        extractor = FrozenExtractor(f"timm:{name}")
    assert (extractor.grid, extractor.stride, extractor.channels) == (42, 14, 384)
    assert extractor(torch.rand(1, 3, 100, 60)).shape == (1, 384, 9, 6)
    assert extractor.on_grid(torch.rand(1, 3, 100, 60), (7, 4)).shape == (1, 384, 7, 4)


def test_without_weights_it_is_the_same_random_network_each_time(timm: Any) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="give the file of its weights by --extractor_weights"):
        first = TimmExtractor(TINY)
    assert torch.equal(torch.rand(3), expected)  # what is drawn elsewhere does not change
    with pytest.warns(UserWarning, match="has random weights"):
        second = TimmExtractor(TINY)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_network_without_position_embeddings_is_taken_too(timm: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        extractor = FrozenExtractor("timm:resnet18")
    assert (extractor.channels, extractor.stride) == (512, 32)


def test_weights_of_another_network_are_refused(tiny: tuple[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"are not those of timm's vit_small_patch16_224: .* such as cls_token"):
        FrozenExtractor("timm:vit_small_patch16_224", weights=tiny[0])
    torch.save({**tiny[1].state_dict(), "other": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match="1 are missing, of another shape or unknown, such as other"):
        FrozenExtractor(f"timm:{TINY}", weights=tmp_path / "more.pth")


def test_the_two_components_train_on_a_transformer_s_stored_features(tiny: tuple[str, Any], tmp_path: Path) -> None:
    ends = []
    for folder in (None, tmp_path, tmp_path):
        torch.manual_seed(0)
        network: Any = build_network(
            "frozen_two_component",
            channels=[4] * 5,
            extractor_path=f"timm:{TINY}",
            extractor_weights=tiny[0],
            feature_store=FeatureStore(folder),
        ).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for seed in (0, 1):
            image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            network(image).square().mean().backward()
            optimizer.step()
        ends.append(network.state_dict())
    for other in ends[1:]:
        for key, value in ends[0].items():
            torch.testing.assert_close(other[key], value, atol=1e-6, rtol=0)
    assert len(list(tmp_path.rglob("*.npy"))) == 2
