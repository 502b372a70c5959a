"""Store features of a frozen extractor on disk, and read them through a memory map. Importing this loads no torch."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import get_args

import numpy as np

from cvm_monai.errors import CvmError
from cvm_monai.files import replacing
from cvm_monai.knobs import FeatureDtype


@dataclass(frozen=True)
class FeatureStore:
    """Store of feature maps, one `.npy` file each, in a folder that several processes and trainings may share.

    A file is replaced atomically; two processes that write it at once write the same. A file that is truncated, or
    holds another kind or shape of array, counts as missing. Nothing is
    ever removed: a folder that is too large is deleted by hand, and filled again by the next training.

    Attributes:
        folder: created when the first map is stored; None stores nothing.
        dtype: `float32` gives back what was computed; `float16` takes half the space and rounds to 11 bits.

    Raises:
        CvmError: an unknown `dtype`.
    """

    folder: str | PathLike[str] | None = None
    dtype: FeatureDtype = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in get_args(FeatureDtype):
            raise CvmError(f"dtype must be one of {', '.join(get_args(FeatureDtype))}, got {self.dtype!r}")

    def get(self, extractor: str, image: str, *, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the stored map of an image, memory-mapped and read-only; None where it is missing or damaged.

        Args:
            extractor, image: their identifiers, in characters allowed in file names.
            shape: (C, h, w) that it must have.
        """
        path = self._path(extractor, image)
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
            return None
        fits = isinstance(found, np.memmap) and found.shape == shape and found.dtype == self.dtype
        return found if fits and found.offset + found.nbytes == size else None

    def put(self, extractor: str, image: str, features: np.ndarray) -> None:
        """Store a map (C, h, w).

        Raises:
            OSError: disk full, or no permission; an earlier file stays.
            CvmError: a value that `float16` cannot hold.
        """
        with np.errstate(over="ignore"):
            stored = features.astype(self.dtype)
        if self.dtype == "float16" and not np.isfinite(stored).all() and np.isfinite(features).all():
            raise CvmError("a feature is larger than float16 can hold: use --feature_dtype float32")
        path = self._path(extractor, image)
        try:
            with replacing(path) as aside, aside.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(stored))
                file.write(np.ascontiguousarray(stored).data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None

    def _path(self, extractor: str, image: str) -> Path:
        if self.folder is None:
            raise CvmError("this store has no folder: nothing is stored")
        return Path(self.folder) / f"{extractor}-{self.dtype}" / f"{image}.npy"


NOT_STORED = FeatureStore()
