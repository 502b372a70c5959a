"""The library timm, the names that it knows, and the weights that it publishes: downloaded only when asked for."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cvm_monai.errors import CvmError
from cvm_monai.networks.extractor_names import TIMM, TimmName, timm_name

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""What the weights of a repository of timm are called, in the order that timm looks for them."""


def checked_name(path: str) -> TimmName:
    """The parts of `timm:NAME@OPTIONS`, with a name that timm knows.

    Raises:
        CvmError: timm is missing or does not start, another form, or an unknown name; the three nearest are named.
    """
    asked, timm = timm_name(path), timm_library()
    if not timm.is_model(asked.name):
        near = get_close_matches(asked.name.partition(".")[0], timm.list_models(), n=3, cutoff=0.0)
        raise CvmError(f"timm {timm.__version__} has no network {asked.name!r}: did you mean {', '.join(near)}?")
    return asked


def pinned_name(path: str) -> str:
    """`timm:NAME@pretrained` with the revision of its weights; they are downloaded where the cache lacks them.

    The revision makes a record say which weights a training had, and a later run take the same. Names that do not ask
    for published weights stay.

    Raises:
        CvmError: as `checked_name`, or weights that are not published or cannot be downloaded.
    """
    asked = checked_name(path)
    return str(replace(asked, revision=_revision(asked))) if asked.pretrained else path


def published_state(path: str) -> dict[str, torch.Tensor]:
    """The tensors that timm publishes for `timm:NAME@pretrained`, by timm's names, the classifier among them.

    Raises:
        CvmError: as `pinned_name`, or a name without `@pretrained`.
    """
    asked = checked_name(path)
    if not asked.pretrained:
        raise CvmError(f"{path} has no weights: write {TIMM}{asked.name}@pretrained for those that timm publishes")
    return _downloaded(asked)


def repository(asked: TimmName) -> str:
    """Where timm publishes the weights of a name, as `owner/repository` or `owner/repository@revision`.

    Raises:
        CvmError: an unknown tag, or no published weights.
    """
    try:
        found = timm_library().get_pretrained_cfg(asked.name)
    except RuntimeError as error:  # an unknown tag
        raise CvmError(f"timm has no published weights {asked.name!r} ({error}): leave the tag out") from error
    hub = getattr(found, "hf_hub_id", None)
    if not hub:
        raise CvmError(
            f"timm publishes no weights of {asked.name} on the Hugging Face hub: give their file by --extractor_weights"
        )
    return f"{hub}@{asked.revision}" if asked.revision else str(hub)


def unreachable(asked: TimmName, error: Exception) -> CvmError:
    """What is said where a download fails, whatever the reason."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return CvmError(
        f"the published weights of {TIMM}{asked.name} are not in the cache of the Hugging Face hub and cannot be "
        f"downloaded ({reason}): connect this machine once, or give their file"
    )


def timm_version() -> str:
    """Of timm, which is installed."""
    return str(timm_library().__version__)


def timm_library() -> Any:
    """timm itself.

    Raises:
        CvmError: it is missing or does not start.
    """
    try:
        import timm
    except ImportError as error:
        reason = "is not installed" if error.name == "timm" else f"cannot be imported ({error})"
        raise CvmError(
            f"an extractor timm:NAME needs timm, which {reason}: pip install 'cvm-monai[vit]', or give a file"
        ) from error
    except RuntimeError as error:  # torchvision of another torch, or of another kind of it
        raise CvmError(
            f"timm does not start ({error}): install a torchvision of the same index and for the same version as torch"
        ) from error
    return timm


@cache
def _revision(asked: TimmName) -> str:
    """The commit of the weights, which are in the cache from here on."""
    _downloaded(asked)
    from huggingface_hub import try_to_load_from_cache

    repo = repository(replace(asked, revision=None))
    for name in WEIGHT_FILES:
        file = try_to_load_from_cache(repo, name, revision=asked.revision)
        if isinstance(file, str):
            parts = Path(file).parts
            return parts[parts.index("snapshots") + 1]
    raise CvmError(f"the cache of the Hugging Face hub does not say which revision of {repo} it holds: empty it")


def _downloaded(asked: TimmName) -> dict[str, torch.Tensor]:
    """From the cache where it has them; safetensors, or with `weights_only=True`: nothing is unpickled."""
    timm, place = timm_library(), repository(asked)
    try:
        state: Mapping[str, torch.Tensor] = timm.models.load_state_dict_from_hf(place, weights_only=True)
    except Exception as error:  # no network, no such revision, a hub that is down: each client has errors of its own
        raise unreachable(asked, error) from error
    return dict(state)
