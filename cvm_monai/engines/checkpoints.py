"""Write and read the newest two checkpoints of a training, with their hashes and random generator states."""

import io
import json
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch

from cvm_monai.engines.processes import gathered
from cvm_monai.errors import CvmError
from cvm_monai.files import remove_all_leftovers, sha256_of, write_bytes, write_json

logger = logging.getLogger(__name__)

MANIFEST = "checkpoints.json"
KEPT = 2
"""Checkpoints kept on disk: the newest, and the one before in case the newest cannot be read."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint: file name, last finished epoch, SHA-256 of the file, and number of its pseudo-label renewal."""

    file: str
    epoch: int
    sha256: str
    pseudo_labels: int


@dataclass(frozen=True)
class Manifest:
    """Contents of a checkpoint folder, oldest first; the settings of its training, and whether that has finished."""

    settings: Mapping[str, Any]
    checkpoints: tuple[Checkpoint, ...] = ()
    finished: bool = False


class CheckpointFolder:
    """Writes, lists and loads the checkpoints in `output_dir/checkpoints`, one file each.

    `checkpoints.json` lists them and is replaced atomically. A file that is not listed is an incomplete write; the next
    write removes it.

    Args:
        folder: created when the first checkpoint is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def manifest(self) -> Manifest | None:
        """Read `checkpoints.json`; None where it does not exist.

        Raises:
            CvmError: the file is not a valid list of checkpoints.
        """
        path = self.folder / MANIFEST
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            states = tuple(Checkpoint(**entry) for entry in found["checkpoints"])
            return Manifest(settings=dict(found["settings"]), checkpoints=states, finished=bool(found["finished"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CvmError(
                f"{path} is not a list of checkpoints ({error}): remove {self.folder}, or train with --resume never"
            ) from error

    def write(self, state: Mapping[str, Any], *, epoch: int, pseudo_labels: int, manifest: Manifest) -> Manifest:
        """Write a checkpoint atomically, then list it; returns the new list, of the newest two.

        Args:
            state: tensors, numbers, text, lists and dictionaries only, so that it can be read without unpickling code.
            epoch: the last finished epoch.
            pseudo_labels: number of the renewal in force.
            manifest: the list so far.

        Raises:
            OSError: no space or no permission; the listed checkpoints are unchanged.
        """
        buffer = io.BytesIO()  # torch's own error for a full disk does not name the cause
        torch.save(dict(state), buffer)
        data = buffer.getvalue()
        entry = Checkpoint(f"epoch_{epoch:05d}.pt", epoch, sha256_of(data), pseudo_labels)
        write_bytes(self.folder / entry.file, data)
        others = [one for one in manifest.checkpoints if one.file != entry.file]
        return self.list(Manifest(manifest.settings, (*others, entry)[-KEPT:], manifest.finished))

    def list(self, manifest: Manifest) -> Manifest:
        """Replace `checkpoints.json` and remove the files that it does not list; returns the manifest."""
        write_json(self.folder / MANIFEST, asdict(manifest))
        remove_all_leftovers(self.folder)
        named = {MANIFEST, *(entry.file for entry in manifest.checkpoints)}
        for path in self.folder.iterdir():
            if (
                path.is_file()
                and path.name not in named
                and path.name.removeprefix(".").startswith(("epoch_", MANIFEST))
            ):
                path.unlink(missing_ok=True)
        return manifest

    def load(self, entry: Checkpoint) -> dict[str, Any]:
        """Load a checkpoint onto the CPU.

        Raises:
            CvmError: its file is missing, incomplete or changed.
        """
        path = self.folder / entry.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CvmError(f"the checkpoint {path} cannot be read ({error.strerror})") from error
        if sha256_of(data) != entry.sha256:
            raise CvmError(f"the checkpoint {path} is cut off or was changed after it was written")
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return state

    def clear(self) -> None:
        """Remove every checkpoint, before a new training starts."""
        if self.folder.is_dir():
            (self.folder / MANIFEST).unlink(missing_ok=True)
            for path in self.folder.glob("epoch_*.pt"):
                path.unlink(missing_ok=True)


def random_states() -> list[dict[str, Any]]:
    """Collect the random generator states of all processes, by rank: Python, NumPy, torch and every GPU.

    In a distributed training every process must call it; all get the same list.
    """
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  (MONAI draws from it)
    version, words, gauss = random.getstate()
    own = {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    return gathered(own)


def set_random_states(states: Sequence[Mapping[str, Any]]) -> None:
    """Restore the states that `random_states` returned, in each process its own.

    Raises:
        CvmError: the number of processes differs from the one that was saved.
    """
    if len(states) != idist.get_world_size():
        raise CvmError(
            f"the checkpoint is of {len(states)} processes and this training has {idist.get_world_size()}: start as "
            "many as before, or train with --resume never"
        )
    own = states[idist.get_rank()]
    version, words, gauss = own["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = own["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(own["torch"])
    for index, state in enumerate(own["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, index)
