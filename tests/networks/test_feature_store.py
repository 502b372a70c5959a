"""Features kept on disk: what is given back, what counts as missing, and how often an extractor is asked."""

from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cvm_monai.networks import FeatureStore, build_network
from cvm_monai.networks.frozen import FrozenExtractor
from cvm_monai.networks.frozen_features import FrozenFeatures

from .test_frozen import Pooled, save_script

MAP = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7


def stored(folder: Path) -> Path:
    """The only file of a store."""
    (file,) = folder.rglob("*.npy")
    return file


def test_a_map_comes_back_from_disk_to_the_bit_and_cannot_be_written_to(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    assert store.get("net", "image", shape=(2, 3, 4)) is None
    store.put("net", "image", MAP)
    found = store.get("net", "image", shape=(2, 3, 4))
    assert isinstance(found, np.memmap)
    assert np.array_equal(found, MAP)
    assert not found.flags.writeable
    assert store.get("net", "other", shape=(2, 3, 4)) is None
    assert store.get("other", "image", shape=(2, 3, 4)) is None
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["image.npy"]


def test_half_precision_takes_half_the_room_and_rounds(tmp_path: Path) -> None:
    half, whole = FeatureStore(tmp_path, "float16"), FeatureStore(tmp_path)
    half.put("net", "image", MAP)
    assert whole.get("net", "image", shape=(2, 3, 4)) is None
    found = half.get("net", "image", shape=(2, 3, 4))
    assert found is not None
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, MAP, rtol=2**-11)
    with pytest.raises(ValueError, match="a feature is larger than float16 can hold: use --feature_dtype float32"):
        half.put("net", "image", np.full((1, 1, 1), 7e4, dtype=np.float32))


@pytest.mark.parametrize("kept", [0, 6, 60, 127, -1])
def test_a_file_that_is_cut_off_counts_as_missing(tmp_path: Path, kept: int) -> None:
    store = FeatureStore(tmp_path)
    store.put("net", "image", MAP)
    file = stored(tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    assert store.get("net", "image", shape=(2, 3, 4)) is None
    store.put("net", "image", MAP)
    assert np.array_equal(np.asarray(store.get("net", "image", shape=(2, 3, 4))), MAP)


def test_a_file_of_another_content_counts_as_missing(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.put("net", "image", MAP)
    assert store.get("net", "image", shape=(2, 4, 3)) is None
    file = stored(tmp_path)
    for other in (MAP.astype(np.float64), np.array([{"an": "object"}], dtype=object)):
        np.save(file, other, allow_pickle=True)
        assert store.get("net", "image", shape=(2, 3, 4)) is None
    file.write_bytes(b"not an array at all")
    assert store.get("net", "image", shape=(2, 3, 4)) is None


def test_a_folder_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "net-float32").write_text("a file where a folder should be")
    with pytest.raises(OSError, match=r"net-float32/image\.npy"):
        FeatureStore(tmp_path).put("net", "image", MAP)


def test_two_that_fill_a_store_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    start, errors = Barrier(2), []

    def fill() -> None:
        start.wait()
        for _ in range(50):
            FeatureStore(tmp_path).put("net", "image", MAP)
            if not np.array_equal(np.asarray(FeatureStore(tmp_path).get("net", "image", shape=(2, 3, 4))), MAP):
                errors.append("a map was not whole")

    threads = [Thread(target=fill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["image.npy"]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype must be one of float32, float16, got 'int8'"):
        FeatureStore("folder", "int8")  # type: ignore[arg-type]


class Counted(nn.Module):
    """A network that notes how many images it was given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.images = network, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.images += len(x)
        found: torch.Tensor = self.network(x)
        return found


def counted(path: str, folder: Path | None, **options: Any) -> tuple[FrozenExtractor, Counted]:
    extractor = FrozenExtractor(path, store=FeatureStore(folder, **options))
    extractor.network = Counted(extractor.network)
    return extractor, extractor.network


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_script(Pooled(), tmp_path_factory.mktemp("script") / "pooled.pt")


def forms(image: torch.Tensor) -> list[torch.Tensor]:
    """The eight flips and turns of (1, 3, H, W)."""
    return [torch.rot90(form, k, (2, 3)) for form in (image, image.flip(2)) for k in range(4)]


def test_the_extractor_is_asked_once_for_each_image_and_form(pooled: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = [form for image in torch.rand(2, 1, 3, 70, 64) for form in forms(image)]
    extractor, network = counted(pooled, tmp_path)
    plain, _ = counted(pooled, None)
    for _ in range(3):
        for image in images:
            assert torch.equal(extractor(image), plain(image))
    assert network.images == 16
    batch = torch.cat([images[0], torch.rand(1, 3, 70, 64), images[2]])
    assert torch.equal(extractor(batch), plain(batch))
    assert network.images == 17  # of the batch one was new
    again, other = counted(pooled, tmp_path)  # another process, or another training
    assert torch.equal(again(images[3]), plain(images[3]))
    assert other.images == 0


def test_a_damaged_file_is_computed_and_written_again(pooled: str, tmp_path: Path) -> None:
    extractor, network = counted(pooled, tmp_path)
    image = torch.rand(1, 3, 64, 64)
    expected = extractor(image)
    file = stored(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert torch.equal(extractor(image), expected)
    assert network.images == 2
    assert file.read_bytes() == whole


def test_other_weights_and_another_image_have_files_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first, second = Pooled(), Pooled()
    nn.init.constant_(second.norm.weight, 2.0)
    paths = [save_script(net, tmp_path / f"{index}.pt") for index, net in enumerate((first, second))]
    image = torch.rand(1, 3, 64, 64)
    found = [FrozenExtractor(path, store=FeatureStore(tmp_path / "store"))(image) for path in paths]
    assert not torch.equal(*found)
    FrozenExtractor(paths[0], store=FeatureStore(tmp_path / "store"))(image + 1e-7)
    assert len(list((tmp_path / "store").rglob("*.npy"))) == 3


def test_stored_features_are_of_full_precision_whatever_the_training_s(pooled: str, tmp_path: Path) -> None:
    extractor, image = FrozenExtractor(pooled, store=FeatureStore(tmp_path)), torch.rand(1, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = extractor(image)
    assert torch.equal(found, FrozenExtractor(pooled)(image))


def test_half_precision_gives_the_same_the_first_time_and_later(pooled: str, tmp_path: Path) -> None:
    extractor, network = counted(pooled, tmp_path, dtype="float16")
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(extractor(image), extractor(image))
    assert extractor(image).dtype == torch.float32
    assert network.images == 1


@pytest.mark.parametrize("name", ["frozen_probe", "frozen_two_component"])
def test_two_steps_lead_to_the_same_weights_with_and_without_a_store(name: Any, pooled: str, tmp_path: Path) -> None:
    batches = torch.rand(2, 1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    ends = []
    for folder in (None, tmp_path, tmp_path):  # empty the first time, full the second
        torch.manual_seed(0)
        network = build_network(name, extractor_path=pooled, feature_store=FeatureStore(folder)).train()
        optimizer = torch.optim.Adam([part for part in network.parameters() if part.requires_grad], lr=0.01)
        for batch in batches:
            optimizer.zero_grad()
            functional.softplus(network(batch)[:, 1] - network(batch)[:, 0]).mean().backward()
            optimizer.step()
        ends.append(network.state_dict())
    for other in ends[1:]:
        for key, value in ends[0].items():
            torch.testing.assert_close(other[key], value, atol=1e-6, rtol=0)


class Odd(nn.Module):
    """Five cells for 64 pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.adaptive_avg_pool2d(x, (x.shape[-2] * 5 // 64, x.shape[-1] * 5 // 64))


def test_features_without_a_whole_stride_are_not_stored(tmp_path: Path) -> None:
    path = save_script(Odd(), tmp_path / "odd.pt")
    assert FrozenExtractor(path).stride is None
    with pytest.raises(ValueError, match="have no whole stride and are not stored: drop feature_store"):
        FrozenExtractor(path, store=FeatureStore(tmp_path))


@pytest.mark.parametrize("standardise", [True, False])
def test_the_joined_stages_of_an_image_are_computed_once_for_each_grid(
    standardise: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, computed = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(0)), []
    plain, first, second = (
        FrozenFeatures("imagenet", feature_store=FeatureStore(folder), standardise=standardise)
        for folder in (None, tmp_path, tmp_path)
    )
    stages = FrozenExtractor.stages
    monkeypatch.setattr(FrozenExtractor, "stages", lambda self, x: computed.append(self) or stages(self, x))
    found = [
        [features.on_grid(image, size) for size in ((12, 8), (6, 4), (12, 8))] for features in (plain, first, second)
    ]
    assert computed == [plain.extractor] * 3 + [first.extractor] * 2
    assert found[0][0].shape == (1, 40 + 112 + 320 + 24, 12, 8)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_the_density_of_two_kinds_is_stored_apart(tmp_path: Path) -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for standardise in (True, False):
        plain, kept = (
            FrozenFeatures("imagenet", feature_store=FeatureStore(folder), standardise=standardise)
            for folder in (None, tmp_path)
        )
        assert torch.equal(plain.on_grid(image, (8, 8)), kept.on_grid(image, (8, 8)))


def test_a_linear_probe_of_centred_features_learns_the_same_from_a_store(tmp_path: Path) -> None:
    batches = torch.rand(2, 1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    logits = []
    for folder in (None, tmp_path, tmp_path):
        torch.manual_seed(0)
        network = build_network("centred_probe", extractor_path="imagenet", feature_store=FeatureStore(folder)).train()
        optimizer = torch.optim.Adam([part for part in network.parameters() if part.requires_grad], lr=0.01)
        for batch in batches:
            optimizer.zero_grad()
            functional.softplus(network(batch)[:, 1] - network(batch)[:, 0]).mean().backward()
            optimizer.step()
        logits.append(network(batches[0]).detach())
    assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
