"""Names of encoders and extractors that stand in place of a file. Importing this loads no torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from cvm_monai.errors import CvmError

LiteName = Literal["lite0", "lite1", "lite2"]
LITE_NAMES: tuple[LiteName, ...] = get_args(LiteName)
IMAGENET, TIMM = "imagenet", "timm:"
"""What a name equals or begins with: EfficientNet-Lite with ImageNet weights, or a network of the library timm."""
PRETRAINED, STAGES = "pretrained", "stages"
TIMM_FORM = "timm:NAME, timm:NAME@pretrained, timm:NAME@stages or timm:NAME@pretrained+stages"


@dataclass(frozen=True)
class TimmName:
    """The parts of `timm:NAME@pretrained:REVISION+stages`; what follows NAME may be left out.

    Attributes:
        name: in timm's list; what follows a dot in it is the tag of published weights.
        pretrained: take the published weights, downloaded by timm into the cache of the Hugging Face hub.
        revision: commit of these weights' repository; None is the newest, or the one in the cache.
        stages: join the features of several strides, rather than take those of the last block.
    """

    name: str
    pretrained: bool = False
    revision: str | None = None
    stages: bool = False

    def __str__(self) -> str:
        of_weights = f"{PRETRAINED}:{self.revision}" if self.revision else PRETRAINED
        options = [of_weights] * self.pretrained + [STAGES] * self.stages
        return f"{TIMM}{self.name}" + (f"@{'+'.join(options)}" if options else "")


def is_name(path: object) -> bool:
    """Whether an extractor is given by name rather than as a file."""
    return is_imagenet(path) or is_timm(path)


def is_imagenet(path: object) -> bool:
    """Whether the name means EfficientNet-Lite, of an existing size or not."""
    return isinstance(path, str) and (path == IMAGENET or path.startswith(f"{IMAGENET}:"))


def is_timm(path: object) -> bool:
    """Whether the name means a network of timm, known or not."""
    return isinstance(path, str) and path.startswith(TIMM)


def lite_name(path: str) -> LiteName:
    """Return the size in a name such as `imagenet:lite1`; `imagenet` alone is the smallest.

    Raises:
        CvmError: an unknown size.
    """
    asked = path.removeprefix(IMAGENET).removeprefix(":") if path != IMAGENET else LITE_NAMES[0]
    for name in LITE_NAMES:
        if name == asked:
            return name
    forms = ", ".join(f"{IMAGENET}:{name}" for name in LITE_NAMES)
    raise CvmError(f"there is no extractor {path!r}: give {IMAGENET}, or one of {forms}")


def timm_name(path: str) -> TimmName:
    """Parse `timm:NAME@OPTIONS`; whether timm knows the name is not checked.

    Raises:
        CvmError: a name of another form.
    """
    name, at, options = path.removeprefix(TIMM).partition("@")
    parts = options.split("+") if at else []
    kinds = [part.partition(":")[0] for part in parts]
    pinned = [part.partition(":")[2] for part in parts if part.startswith(f"{PRETRAINED}:")]
    wrong = set(kinds) - {PRETRAINED, STAGES} or len(set(kinds)) < len(kinds) or f"{STAGES}:" in options
    if not name or wrong or pinned == [""]:
        raise CvmError(f"{path!r} is not an extractor: the form is {TIMM_FORM}")
    return TimmName(name, PRETRAINED in kinds, pinned[0] if pinned else None, STAGES in kinds)
