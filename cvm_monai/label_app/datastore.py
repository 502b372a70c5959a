"""MONAI Label's datastore, a folder of images and labels, with checks of names and uploaded files."""

import filecmp
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException

from cvm_monai.errors import CvmError
from cvm_monai.files import replacing, write_text
from cvm_monai.label_app.uploads import IMAGES, LABELS, check_image_id, check_tag, lies_inside, split_suffix
from cvm_monai.slides.files import DICOM_SUFFIX, one_of_each_series, series_uid, visible

Check = Callable[[Path, str], object]
"""Reads an uploaded file and raises CvmError where it is invalid; the text is the image's id."""

Read = Callable[[Path, str], dict[str, Any]]
"""A `Check` that returns what it read and what it left out."""

logger = logging.getLogger(__name__)


class StudiesDatastore(LocalDatastore):
    """A folder of images with `labels/<tag>/`, as MONAI Label has it.

    Unlike in MONAI Label's own, neither names of requests nor links can leave the folder; an image is never replaced; a
    label is read before it is kept, and a failed request changes nothing; the case of suffixes is ignored; images and
    labels are not mistaken for each other.

    Args:
        folder: of the studies; images are in its `images/` if there is one.
        check_image: check of an uploaded image.
        check_label: check of an uploaded label, given its image's id; its result is kept in the label's `info`.
        follow_links: accept images and labels that are links out of the folder.
        auto_reload: watch the folder for changes.
    """

    def __init__(
        self,
        folder: str,
        *,
        check_image: Check,
        check_label: Read,
        follow_links: bool = False,
        auto_reload: bool = True,
        read_only: bool = False,
    ) -> None:
        self._root = Path(folder).resolve()
        self._check_image, self._check_label, self._follow_links = check_image, check_label, follow_links
        self._changing = threading.RLock()
        self._last_read: tuple[str, dict[str, Any]] = ("", {})
        suffixes = dict.fromkeys((*IMAGES, *LABELS))
        super().__init__(
            str(self._root),
            images_dir="images" if (self._root / "images").is_dir() else ".",
            extensions=[f"*{suffix}" for suffix in suffixes],
            auto_reload=auto_reload,
            read_only=read_only,
        )

    def _reconcile_datastore(self) -> None:
        with self._changing:
            super()._reconcile_datastore()

    def _on_any_event(self, event: Any) -> None:
        """Look through the folder where a file came that is not listed, or went that is.

        Each look takes a time that grows with the folder, and finds all files that have come by then. MONAI Label's own
        method looks once for each file, so that many copied into a large folder keep the server busy for minutes.
        """
        path = os.fspath(event.src_path)
        if os.path.exists(path) != self._is_listed(path):
            super()._on_any_event(event)

    def _is_listed(self, path: str) -> bool:
        """Whether a path is that of an image, or of a label in the folder of its tag, as the list has it."""
        image_id, _ = self._to_id(os.path.basename(path))
        listed = (self.get_image_uri(image_id), self.get_label_uri(image_id, os.path.basename(os.path.dirname(path))))
        return os.path.realpath(path) in listed

    def _remove_non_existing(self) -> int:
        """Remove missing files from the list in one step: MONAI Label's own method empties the list for a moment."""
        self._init_from_datastore_file()
        kept: dict[str, ImageLabelModel] = {}
        count = 0
        for image_id, entry in self._datastore.objects.items():
            count += len(entry.labels) + 1
            if not self.get_image_uri(image_id) or not os.path.exists(self.get_image_uri(image_id)):
                continue
            labels = {tag: label for tag, label in entry.labels.items() if self._has_label(image_id, tag)}
            kept[image_id] = ImageLabelModel(image=entry.image, labels=labels)
            count -= len(labels) + 1
        for image_id in self._repeated(kept):
            del kept[image_id]
            count += 1
        if count:
            self._datastore.objects = kept
        return count

    def _has_label(self, image_id: str, tag: str) -> bool:
        uri = self.get_label_uri(image_id, tag)
        return bool(uri) and os.path.exists(uri)

    def _to_id(self, file: str) -> tuple[str, str]:
        """Split the file name of an image or a label into (id, suffix)."""
        found = split_suffix(file, (*IMAGES, *LABELS))
        return found if found else (Path(file).stem, Path(file).suffix)

    def _list_files(self, path: str, patterns: Any) -> dict[str, str]:
        """List images of the image folder, labels of the others, by name, without links out of the studies folder."""
        del patterns
        known = IMAGES if Path(path).resolve() == Path(self._datastore.image_path()).resolve() else LABELS
        found: dict[str, str] = {}
        for file in sorted(Path(path).iterdir()):
            if file.name.startswith(".") or not split_suffix(file.name, known) or not file.is_file():
                continue
            if not self._inside(file):
                logger.warning("skipped, a link out of the studies folder: %s", file)
                continue
            found[file.name] = file.name
        if known is IMAGES:  # one DICOM series is one image
            series = one_of_each_series(Path(path) / name for name in found).values()
            return {self._known(files): self._known(files) for files in series}
        return found

    def _known(self, files: Sequence[Path]) -> str:
        """Return, of the files of one image, the one already listed, else the first."""
        listed = (file.name for file in files if self._to_id(file.name)[0] in self._datastore.objects)
        return next(listed, files[0].name)

    def _repeated(self, entries: Mapping[str, ImageLabelModel]) -> set[str]:
        """Return ids without labels whose file belongs to a DICOM series with another id."""
        ids = {Path(self.get_image_uri(image_id)): image_id for image_id in entries}
        surplus: set[str] = set()
        for files in one_of_each_series(ids).values():
            names = [ids[file] for file in files]
            labelled = [name for name in names if entries[name].labels]
            surplus |= set(names) - set(labelled or names[:1])
        return surplus

    def _of_series(self, file: Path) -> list[Path]:
        """List the files of the image folder in a DICOM file's series."""
        uid = series_uid(file) if file.suffix.lower() == DICOM_SUFFIX else None
        folder = Path(self._datastore.image_path())
        return [] if uid is None else [one for one in visible(folder, (DICOM_SUFFIX,)) if series_uid(one) == uid]

    def _inside(self, path: str | Path) -> bool:
        return self._follow_links or lies_inside(path, self._root)

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of an image; empty for an unknown id."""
        uri = super().get_image_uri(image_id) if isinstance(image_id, str) else ""
        return uri if uri and self._inside(uri) else ""

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return the path of a label; empty where there is none."""
        uri = super().get_label_uri(label_id, label_tag) if isinstance(label_id, str) else ""
        return uri if uri and self._inside(uri) else ""

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Keep a copy of an image that can be opened; the same bytes under the same id change nothing.

        A further file of a known DICOM series is kept beside it and gets the id of that image.

        Raises:
            CvmError: an invalid name, an id of another image, or a file that is not an image.
        """
        found = split_suffix(os.path.basename(image_filename), IMAGES)
        if found is None:
            raise CvmError(
                f"an image must be one of {', '.join(IMAGES)}, got {os.path.basename(image_filename)[-40:]!r}"
            )
        image_id, suffix = check_image_id(image_id or found[0]), found[1]
        suffix_given = split_suffix(image_id, IMAGES)
        image_id = suffix_given[0] if suffix_given else image_id
        folder = Path(self._datastore.image_path())
        with self._changing, FileLock(self._lock_file):
            taken = {self._to_id(name)[0] for name in os.listdir(folder)}
            known = Path(self.get_image_uri(image_id) or folder / f"{image_id}{suffix}")
            if known.is_file() and self._inside(known) and filecmp.cmp(known, image_filename, shallow=False):
                return self._to_id(self._known(self._of_series(known) or [known]))[0]
            if image_id in self._datastore.objects or image_id in taken:
                raise CvmError(f"there is another image {image_id!r} already: delete it first, or choose another id")
            self._check_image(Path(image_filename), image_id)
            others = self._of_series(Path(image_filename))
            _keep(Path(image_filename), folder / f"{image_id}{suffix}")
            if others:
                return self._to_id(self._known(others))[0]
            info = dict(image_info or {}) | {"ts": int(time.time()), "name": f"{image_id}{suffix}"}
            self._datastore.objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=suffix))
            self._update_datastore_file(lock=False)
        return image_id

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a copy of a label that can be read; an earlier one of the same tag is replaced.

        Raises:
            ImageNotFoundException: no such image.
            CvmError: an invalid tag, or a file that is not an annotation of this image.
        """
        if not self.get_image_uri(image_id):
            raise ImageNotFoundException(f"Image {image_id[:60]!r} not found")
        tag = check_tag(label_tag)
        found = split_suffix(os.path.basename(label_filename), LABELS)
        if found is None:
            raise CvmError(
                f"a label must be one of {', '.join(LABELS)}, got {os.path.basename(label_filename)[-40:]!r}"
            )
        read = self._check_label(Path(label_filename), image_id)
        suffix = ".geojson" if found[1].lower() == ".json" else found[1]
        folder = Path(self._datastore.label_path(tag))
        if not lies_inside(folder, self._root):
            raise CvmError(f"the folder of the labels {tag!r} is a link out of the studies folder")
        with self._changing, FileLock(self._lock_file):
            folder.mkdir(parents=True, exist_ok=True)
            entry = self._datastore.objects[image_id]
            old = entry.labels.get(tag)
            _keep(Path(label_filename), folder / f"{image_id}{suffix}")
            if old is not None and old.ext != suffix:
                (folder / f"{image_id}{old.ext}").unlink(missing_ok=True)
            info = dict(label_info or {}) | {"ts": int(time.time()), "name": f"{image_id}{suffix}", "read": read}
            self._last_read = (image_id, read)
            entry.labels[tag] = DataModel(info=info, ext=suffix)
            self._update_datastore_file(lock=False)
        return image_id

    def last_read(self, image_id: str) -> dict[str, Any]:
        """Return what was read of the label kept last, if it is of this image."""
        return dict(self._last_read[1]) if self._last_read[0] == image_id else {}

    def remove_image(self, image_id: str) -> None:
        """Remove an image (of a DICOM series all files) and its labels.

        Raises:
            ImageNotFoundException: no such image.
        """
        if not self.get_image_uri(image_id):
            raise ImageNotFoundException(f"Image {image_id[:60]!r} not found")
        with self._changing:  # the folder's watcher would take another file of the series for a new image
            file = Path(self.get_image_uri(image_id))
            for other in self._of_series(file):
                if other != file:
                    other.unlink(missing_ok=True)
            super().remove_image(image_id)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label if it exists."""
        if self.get_label_uri(label_id, label_tag):
            super().remove_label(label_id, label_tag)

    def labels_of(self, tag: str = "final") -> list[tuple[str, Path, Path]]:
        """List (image id, image, label) of every image with a label of a tag, in the order of the ids.

        Labels whose files are gone are left out, although the list may still have them until the watcher notices.
        """
        found = []
        for image_id, entry in sorted(self._datastore.objects.items()):
            image, label = self.get_image_uri(image_id), self.get_label_uri(image_id, tag)
            if tag in entry.labels and image and label and os.path.isfile(image) and os.path.isfile(label):
                found.append((image_id, Path(image), Path(label)))
        return found

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Replace the list atomically, so that a crash leaves the old one or the new one."""
        if lock:
            with FileLock(self._lock_file):
                self._update_datastore_file(lock=False)
            return
        self._ignore_event_config = True
        text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
        path = Path(self._datastore_config_path)
        write_text(path, text)
        self._config_ts = os.stat(path).st_mtime


def _keep(source: Path, target: Path) -> None:
    """Copy with atomic replacement; a link at the target is replaced, not followed."""
    with replacing(target) as aside:
        shutil.copyfile(source, aside)
