"""The ResNet34 encoder is torchvision's, and weights saved in that layout load from a local file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from cvm_monai.networks import build_network
from cvm_monai.networks.weights import load_encoder_weights

State = dict[str, torch.Tensor]
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def torchvision_names() -> list[str]:
    """The keys of torchvision's resnet34 without fc: 3, 4, 6 and 3 blocks; layers 2 to 4 begin with a shortcut."""
    names = ["conv1.weight", *(f"bn1.{part}" for part in NORM)]
    for layer, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            prefix = f"layer{layer}.{block}"
            for index in (1, 2):
                names += [f"{prefix}.conv{index}.weight", *(f"{prefix}.bn{index}.{part}" for part in NORM)]
            if block == 0 and layer > 1:
                names += [f"{prefix}.downsample.0.weight", *(f"{prefix}.downsample.1.{part}" for part in NORM)]
    return names


@pytest.fixture(scope="module")
def network() -> Any:
    return build_network("resnet34_unet", channels=(8, 8, 8, 8, 8), normalisation="batch").eval()


@pytest.fixture(scope="module")
def weights(network: Any) -> State:
    """A torchvision-like state dict with the classifier; each tensor repeats a number of its own (and saves small)."""
    state = {
        key: torch.tensor(number, dtype=value.dtype).expand(value.shape)
        for number, (key, value) in enumerate(network.encoder.state_dict().items(), start=1)
    }
    return state | {"fc.weight": torch.zeros(1).expand(1000, 512), "fc.bias": torch.zeros(1000)}


def assert_loaded(network: Any, weights: State) -> None:
    for key, value in network.encoder.state_dict().items():
        assert torch.equal(value, weights[key]), key


def reference_maps(state: State, x: torch.Tensor) -> list[torch.Tensor]:
    """The five maps of torchvision's resnet34, written out from its state dict."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, weight, bias = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", *NORM[:2]))
        return functional.batch_norm(x, mean, var, weight, bias)

    x = functional.conv2d(x, state["conv1.weight"], stride=2, padding=3)
    maps = [functional.relu(norm(x, "bn1"))]
    x = functional.max_pool2d(maps[0], 3, 2, 1)
    for layer, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            y = functional.relu(
                norm(functional.conv2d(x, state[f"{name}.conv1.weight"], None, stride, 1), f"{name}.bn1")
            )
            y = norm(functional.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if stride == 2:
                x = norm(functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2), f"{name}.downsample.1")
            x = functional.relu(x + y)
        maps.append(x)
    return maps


def test_encoder_keys_are_those_of_torchvision(network: Any) -> None:
    keys = [key.removeprefix("encoder.") for key in network.state_dict() if key.startswith("encoder.")]
    assert sorted(keys) == sorted(torchvision_names())
    assert len(keys) == 216


def test_the_two_component_encoder_ends_at_layer_3() -> None:
    keys = build_network("two_component", channels=(8, 8, 8, 8, 8), normalisation="batch").encoder.state_dict()
    assert sorted(keys) == sorted(name for name in torchvision_names() if not name.startswith("layer4"))


@torch.no_grad()
def test_encoder_computes_what_torchvision_would(network: Any) -> None:
    image = torch.rand(2, 3, 64, 96)
    expected = reference_maps(network.encoder.state_dict(), image)
    for ours, theirs in zip(network.encoder(image), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "prefix, wrapper",
    [
        ("", None),
        ("module.", "state_dict"),
        ("encoder.", None),
        ("backbone.", "model"),
        ("module.encoder.", "state_dict"),
    ],
)
def test_weights_load_from_a_local_file(
    network: Any, weights: State, tmp_path: Path, prefix: str, wrapper: str | None
) -> None:
    for value in network.encoder.state_dict().values():
        value.zero_()
    state = {prefix + key: value for key, value in weights.items()} | {"decoder.conv1.weight": torch.zeros(1)}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "r34.pth")
    load_encoder_weights(network, tmp_path / "r34.pth")
    assert_loaded(network, weights)


@pytest.mark.parametrize("name", ["resnet34_unet", "two_component"])
def test_a_network_is_built_with_encoder_weights(name: Any, weights: State, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "r34.pth")
    built = build_network(name, channels=(8, 8, 8, 8, 8), encoder_weights=str(tmp_path / "r34.pth"))
    assert_loaded(built, weights)


def test_old_files_without_batch_counters_load(network: Any, weights: State, tmp_path: Path) -> None:
    old = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    network.encoder.conv1.weight.data.zero_()
    load_encoder_weights(network, tmp_path / "old.pth")
    assert torch.equal(network.encoder.conv1.weight, weights["conv1.weight"])


def test_a_missing_file_is_named(network: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file of encoder weights at .*nowhere\.pth"):
        load_encoder_weights(network, tmp_path / "nowhere.pth")


@pytest.mark.parametrize("content", [b"", b"not weights at all"])
def test_an_unreadable_file_is_named(network: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.pth cannot be read as weights alone"):
        load_encoder_weights(network, tmp_path / "bad.pth")


def test_a_pickled_object_is_not_executed(network: Any, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'proof')!r}, 'w')",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="cannot be read as weights alone"):
        load_encoder_weights(network, tmp_path / "evil.pth")
    assert not (tmp_path / "proof").exists()


def test_a_file_that_holds_no_state_dict_is_refused(network: Any, tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list, not a state dict"):
        load_encoder_weights(network, tmp_path / "list.pth")


def test_keys_of_another_network_are_counted(network: Any, weights: State, tmp_path: Path) -> None:
    resnet18 = {key: value for key, value in weights.items() if key[:8] != "layer1.2"}
    torch.save(resnet18, tmp_path / "r18.pth")
    message = (
        r"r18\.pth is not a ResNet34: it has 170 of the encoder's 180 weights, .* missing is layer1\.2\.conv1\.weight"
    )
    with pytest.raises(ValueError, match=message):
        load_encoder_weights(network, tmp_path / "r18.pth")
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match=r"has 0 of the encoder's 180 weights, .* missing is conv1\.weight"):
        load_encoder_weights(network, tmp_path / "vgg.pth")


def test_weights_of_another_shape_are_refused_and_nothing_is_loaded(
    network: Any, weights: State, tmp_path: Path
) -> None:
    network.encoder.conv1.weight.data.fill_(0.5)
    torch.save(weights | {"layer4.2.conv2.weight": torch.zeros(4, 4, 3, 3)}, tmp_path / "narrow.pth")
    with pytest.raises(ValueError, match=r"layer4\.2\.conv2\.weight has shape \(4, 4, 3, 3\) where \(512, 512, 3, 3\)"):
        load_encoder_weights(network, tmp_path / "narrow.pth")
    assert bool((network.encoder.conv1.weight == 0.5).all())


def test_a_file_with_two_encoders_is_refused(network: Any, weights: State, tmp_path: Path) -> None:
    both = {f"{who}.{key}": value for who in ("student", "teacher") for key, value in weights.items()}
    torch.save(both, tmp_path / "both.pth")
    with pytest.raises(ValueError, match=r"several encoders \('student\.', 'teacher\.'\)"):
        load_encoder_weights(network, tmp_path / "both.pth")


def test_a_network_without_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="UNet has no ResNet34 encoder"):
        load_encoder_weights(build_network("unet", channels=(4, 4, 4, 4, 4)), tmp_path / "r34.pth")
