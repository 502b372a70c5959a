"""Check names of the library timm, and download the weights that it publishes, only when asked for."""

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
"""File names of the weights in a repository of timm, in the order that timm looks for them."""


def checked_name(path: str) -> TimmName:
    """Parse `timm:NAME@OPTIONS` and check that timm knows the name.

    Raises:
        CvmError: timm is missing or fails to import, another form, or an unknown name; the three nearest are named.
    """
    asked, timm = timm_name(path), timm_library()
    if not timm.is_model(asked.name):
        near = get_close_matches(asked.name.partition(".")[0], timm.list_models(), n=3, cutoff=0.0)
        raise CvmError(f"timm {timm.__version__} has no network {asked.name!r}: did you mean {', '.join(near)}?")
    return asked


def pinned_name(path: str) -> str:
    """Add the revision of its weights to `timm:NAME@pretrained`, downloading them where the cache lacks them.

    The revision records which weights a training had, so that a later run takes the same. Names that do not ask for
    published weights are returned as they are.

    Raises:
        CvmError: as `checked_name`, or weights that are not published or cannot be downloaded.
    """
    asked = checked_name(path)
    return str(replace(asked, revision=_revision(asked))) if asked.pretrained else path


def published_state(path: str) -> dict[str, torch.Tensor]:
    """Read the tensors that timm publishes for `timm:NAME@pretrained`, by timm's names, with the classifier.

    Raises:
        CvmError: as `pinned_name`, or a name without `@pretrained`.
    """
    asked = checked_name(path)
    if not asked.pretrained:
        raise CvmError(f"{path} has no weights: write {TIMM}{asked.name}@pretrained for those that timm publishes")
    return _downloaded(asked)


def repository(asked: TimmName) -> str:
    """Return where timm publishes the weights of a name: `owner/repository` or `owner/repository@revision`.

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
    """Return the error for a failed download, whatever the reason."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return CvmError(
        f"the published weights of {TIMM}{asked.name} are not in the cache of the Hugging Face hub and cannot be "
        f"downloaded ({reason}): connect this machine once, or give their file"
    )


def timm_version() -> str:
    """Return the version of the installed timm."""
    return str(timm_library().__version__)


def timm_library() -> Any:
    """Import timm and return it.

    Raises:
        CvmError: it is missing or fails to import.
    """
    try:
        import timm
    except ImportError as error:
        reason = "is not installed" if error.name == "timm" else f"cannot be imported ({error})"
        raise CvmError(
            f"an extractor timm:NAME needs timm, which {reason}: pip install 'cvm-monai[vit]', or give a file"
        ) from error
    except RuntimeError as error:  # torchvision for another version or build of torch
        raise CvmError(
            f"timm cannot be imported ({error}): install a torchvision of the same index and "
            "for the same version as torch"
        ) from error
    return timm


@cache
def _revision(asked: TimmName) -> str:
    """Return the commit of the weights, downloaded into the cache."""
    _downloaded(asked)
    from huggingface_hub import try_to_load_from_cache

    repo = repository(replace(asked, revision=None))
    for name in WEIGHT_FILES:
        file = try_to_load_from_cache(repo, name, revision=asked.revision)
        if isinstance(file, str):
            parts = Path(file).parts
            return parts[parts.index("snapshots") + 1]
    raise CvmError(f"the cache of the Hugging Face hub does not say which revision of {repo} it holds: clear it")


def _downloaded(asked: TimmName) -> dict[str, torch.Tensor]:
    """Read weights, from the cache where it has them: safetensors, or with `weights_only=True`, without unpickling."""
    timm, place = timm_library(), repository(asked)
    try:
        state: Mapping[str, torch.Tensor] = timm.models.load_state_dict_from_hf(place, weights_only=True)
    except Exception as error:  # no network, no such revision, a hub that is down: each client has its own errors
        raise unreachable(asked, error) from error
    return dict(state)
