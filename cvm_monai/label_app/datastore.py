"""MONAI Label's folder of images and labels: names stay inside it, and files are read before they are kept."""

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
from cvm_monai.slides.dicom import DICOM_SUFFIX, one_of_each_series, series_uid
from cvm_monai.slides.files import visible

Check = Callable[[Path, str], object]
"""Reads an uploaded file and raises CvmError where it is not sound; the text is the image's id."""

Read = Callable[[Path, str], dict[str, Any]]
"""A `Check` that says what it read and what it left out."""

logger = logging.getLogger(__name__)


class StudiesDatastore(LocalDatastore):
    """A folder of images with `labels/<tag>/`, as MONAI Label has it.

    Unlike MONAI Label's own: names of requests cannot leave the folder, nor can links; an image is never replaced; a
    label is read before it is kept, and a request that fails changes nothing; suffixes are known in any case; files of
    one kind are not taken for the other.

    Args:
        folder: of the studies; its `images/` where it has one.
        check_image: of an uploaded image.
        check_label: of an uploaded label, given its image's id; what it says is kept in the label's `info`.
        follow_links: take images and labels that are links out of the folder.
        auto_reload: watch the folder.
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

    def _remove_non_existing(self) -> int:
        """Forget what is no longer on disk, in one step: MONAI Label's own empties its list for a moment."""
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
        """A file's name as (id, suffix), of an image or a label."""
        found = split_suffix(file, (*IMAGES, *LABELS))
        return found if found else (Path(file).stem, Path(file).suffix)

    def _list_files(self, path: str, patterns: Any) -> dict[str, str]:
        """Images of the image folder, labels of the others, by name; links out of the studies folder are left out."""
        del patterns
        known = IMAGES if Path(path).resolve() == Path(self._datastore.image_path()).resolve() else LABELS
        found: dict[str, str] = {}
        for file in sorted(Path(path).iterdir()):
            if file.name.startswith(".") or not split_suffix(file.name, known) or not file.is_file():
                continue
            if not self._inside(file):
                logger.warning("passed over, a link out of the studies folder: %s", file)
                continue
            found[file.name] = file.name
        if known is IMAGES:  # the files of one DICOM series are one image
            series = one_of_each_series(Path(path) / name for name in found).values()
            return {self._known(files): self._known(files) for files in series}
        return found

    def _known(self, files: Sequence[Path]) -> str:
        """Of the files of one image the name of that which the list has already, else of the first."""
        listed = (file.name for file in files if self._to_id(file.name)[0] in self._datastore.objects)
        return next(listed, files[0].name)

    def _repeated(self, entries: Mapping[str, ImageLabelModel]) -> set[str]:
        """Ids without labels whose file is of a DICOM series that another id stands for."""
        ids = {Path(self.get_image_uri(image_id)): image_id for image_id in entries}
        surplus: set[str] = set()
        for files in one_of_each_series(ids).values():
            names = [ids[file] for file in files]
            labelled = [name for name in names if entries[name].labels]
            surplus |= set(names) - set(labelled or names[:1])
        return surplus

    def _of_series(self, file: Path) -> list[Path]:
        """The files of the image folder that are of a DICOM file's series."""
        uid = series_uid(file) if file.suffix.lower() == DICOM_SUFFIX else None
        folder = Path(self._datastore.image_path())
        return [] if uid is None else [one for one in visible(folder, (DICOM_SUFFIX,)) if series_uid(one) == uid]

    def _inside(self, path: str | Path) -> bool:
        return self._follow_links or lies_inside(path, self._root)

    def get_image_uri(self, image_id: str) -> str:
        """Path of an image; empty where there is none of that id."""
        uri = super().get_image_uri(image_id) if isinstance(image_id, str) else ""
        return uri if uri and self._inside(uri) else ""

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of a label; empty where there is none."""
        uri = super().get_label_uri(label_id, label_tag) if isinstance(label_id, str) else ""
        return uri if uri and self._inside(uri) else ""

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Keep a copy of an image that can be opened; the same bytes under the same id are the image that is there.

        A further file of a DICOM series that is there is kept beside it, and its id is that of the image.

        Raises:
            CvmError: a name that is none, an id that another image has, or a file that is no image.
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
            CvmError: a tag that is none, or a file that is no annotation of this image.
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
        """What was read of the label that was kept last, where it is of this image."""
        return dict(self._last_read[1]) if self._last_read[0] == image_id else {}

    def remove_image(self, image_id: str) -> None:
        """Remove an image, of a DICOM series all files, and its labels.

        Raises:
            ImageNotFoundException: no such image.
        """
        if not self.get_image_uri(image_id):
            raise ImageNotFoundException(f"Image {image_id[:60]!r} not found")
        with self._changing:  # who watches the folder would take another file of the series for a new image
            file = Path(self.get_image_uri(image_id))
            for other in self._of_series(file):
                if other != file:
                    other.unlink(missing_ok=True)
            super().remove_image(image_id)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label; none is left alone."""
        if self.get_label_uri(label_id, label_tag):
            super().remove_label(label_id, label_tag)

    def labels_of(self, tag: str = "final") -> list[tuple[str, Path, Path]]:
        """(image id, image, label) of every image that has a label of a tag, in the order of the ids.

        A label that is no longer there is none, although the list may have it still: MONAI Label watches the folder.
        """
        found = []
        for image_id, entry in sorted(self._datastore.objects.items()):
            image, label = self.get_image_uri(image_id), self.get_label_uri(image_id, tag)
            if tag in entry.labels and image and label and os.path.isfile(image) and os.path.isfile(label):
                found.append((image_id, Path(image), Path(label)))
        return found

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write aside and rename, so that a crash leaves the old list or the new one."""
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
    """Copy aside and rename; a link at the target is replaced, not followed."""
    with replacing(target) as aside:
        shutil.copyfile(source, aside)
