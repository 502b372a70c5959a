"""The folder that is annotated: its images, their files of annotations, the classes, and where results go."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvm_monai.annotations.document import Classes
from cvm_monai.annotations.geojson import COLOURS, label_colours
from cvm_monai.annotations.labels import class_colours, class_names, label_key, label_table
from cvm_monai.annotations.model import Colour
from cvm_monai.annotations.reader import annotation_suffix
from cvm_monai.errors import CvmError
from cvm_monai.files import check_lockable, read_number, read_table, sha256_of, try_folder
from cvm_monai.slides import IMAGE_SUFFIXES, SLIDE_SUFFIXES, SlideImage, open_image
from cvm_monai.slides.files import ImageFile, Names, images_in, normal, visible

HIDDEN = ".cvm-annotate"
"""Folder in the annotated one for the history of edits, trainings and their runs."""

PLACES = ("images", "slides")
"""Sub-folders that may hold the images."""

OPENED = 12
"""Number of images that are kept open."""

EDITED = ".geojson"
"""Suffix of the annotation files that can be edited."""


@dataclass(frozen=True)
class ProjectImage:
    """An image of the folder.

    Attributes:
        id: opaque text, safe in an address.
        name: the case id, as in a data list.
        path: its file.
        points: its GeoJSON file, which may not exist yet.
        problem: why its annotations cannot be edited; None where they can.
    """

    id: str
    name: str
    path: Path
    points: Path
    problem: str | None = None


@dataclass(frozen=True)
class ImageFacts:
    """Size and um/px of an image; `problem` says why it cannot be opened."""

    width: int = 0
    height: int = 0
    mpp: float | None = None
    problem: str | None = None


class Project:
    """The images and classes of a folder. Threads may share it.

    Args:
        folder: holds images, or `images/` with them.
        class_map: see `read_class_map`; None: target and background.
        output: folder of the trainings; None: in the hidden folder.
        mpp: um/px at which clicks are answered and networks are trained; None: the images' own pixels.

    Raises:
        CvmError: no such folder, no image in it, or no permission to write.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        class_map: Mapping[str, Any] | None = None,
        output: str | Path | None = None,
        mpp: float | None = None,
    ) -> None:
        given = Path(folder).expanduser()
        if not given.is_dir():
            raise CvmError(f"{given} is not a folder: give the one that holds your images")
        self.folder = given.resolve()
        self.class_map = dict(class_map or {})
        self.mpp = mpp
        self.classes = _classes(self.class_map)
        self.passed_over: tuple[str, ...] = ()
        self.images = self._find_images()
        self.rows = self._read_rows()
        self.hidden = self.folder / HIDDEN
        check_writable(self.folder)
        check_lockable(self.hidden)
        self.work = self.hidden if output is None else Path(output).expanduser().resolve()
        check_lockable(self.work)
        self._opened: OrderedDict[str, SlideImage] = OrderedDict()
        self._facts: dict[tuple[str, int, int], ImageFacts] = {}
        self._lock = threading.Lock()

    def _find_images(self) -> dict[str, ProjectImage]:
        """Find the images by id, and the annotation file of each."""
        suffixes = tuple(dict.fromkeys((*IMAGE_SUFFIXES, *SLIDE_SUFFIXES)))
        place = next((self.folder / name for name in PLACES if (self.folder / name).is_dir()), self.folder)
        found = images_in(place, suffixes) if place != self.folder or visible(place, suffixes) else ()
        parts: dict[bool, list[ImageFile]] = {True: [], False: []}
        for image in found:
            parts[image.path.resolve().is_relative_to(self.folder)].append(image)
        inside = parts[True]
        if left := [image.path.name for image in parts[False]]:
            self.passed_over = (f"{len(left)} image(s) are links that lead out of the folder, such as {left[0]}",)
        if not inside:
            raise CvmError(
                f"{self.folder} holds no image, neither itself nor in images/; known kinds are {', '.join(suffixes)}"
            )
        files = self._annotation_files({image.name: image.path for image in inside})
        images = [self._image(image, files) for image in inside]
        return {image.id: image for image in images}

    def _read_rows(self) -> dict[str, dict[str, str]]:
        """Read the row of each image in the folder's cases.csv: patient and um/px; empty without the file.

        Raises:
            CvmError: a table that cannot be read, or an um/px that is none.
        """
        table = self.folder / "cases.csv"
        names = Names({image.name: image.path for image in self.images.values()})
        rows: dict[str, dict[str, str]] = {}
        for line, row in read_table(table, required=("case_id",)) if table.is_file() else ():
            if row.get("mpp") and not read_number(row["mpp"], where=f"{table}, line {line}", name="mpp") > 0:
                raise CvmError(f"{table}, line {line}: mpp (micrometres per pixel) must be above 0, got {row['mpp']}")
            rows[names.find(row["case_id"]) or row["case_id"]] = row
        return rows

    def _annotation_files(self, images: Mapping[str, Path]) -> dict[str, list[Path]]:
        """Find the annotation files of each image by its name, in `points/`; a table is the file of all its images."""
        names = Names(images)
        files: dict[str, list[Path]] = {}
        for file in visible(self.folder / "points"):
            suffix = annotation_suffix(file)
            owner = names.find(file.name[: -len(suffix)]) if suffix and file.name != "points.csv" else None
            if owner is not None:
                files.setdefault(owner, []).append(file)
        for table in (self.folder / "points.csv", self.folder / "points" / "points.csv"):
            rows = read_table(table, required=("case_id",)) if table.is_file() else ()
            for owner in {names.find(row["case_id"]) for _, row in rows}:
                if owner is not None:
                    files.setdefault(owner, []).append(table)
        return files

    def _image(self, image: ImageFile, files: Mapping[str, list[Path]]) -> ProjectImage:
        """Describe one image; its annotations can be edited where they are one GeoJSON file inside the folder."""
        own = files.get(image.name, [self.folder / "points" / f"{image.name}{EDITED}"])
        other = [file for file in own if not file.name.lower().endswith(EDITED)]
        problem = None
        if other:
            problem = f"its annotations are in {other[0].name}, which is not edited here: export them as GeoJSON"
        elif len(own) > 1:
            problem = f"{own[0].name} and {own[1].name} are both its annotations: keep one of the two"
        elif not own[0].resolve().is_relative_to(self.folder):
            problem = f"{own[0].name} is a link that leads out of the folder"
        key = sha256_of(normal(image.name).encode())[:16]
        return ProjectImage(key, image.name, image.path, own[0], problem)

    def image(self, image_id: str) -> ProjectImage:
        """Return an image by its id.

        Raises:
            KeyError: an unknown id.
        """
        return self.images[image_id]

    def opened(self, image: ProjectImage) -> SlideImage:
        """Return the opened image, which others use too: do not close it.

        Raises:
            CvmError: it cannot be opened.
        """
        try:
            facts = image.path.stat()
        except OSError as error:
            raise CvmError(f"{image.path.name} cannot be opened: {error.strerror}") from None
        key = f"{image.id}:{facts.st_mtime_ns}:{facts.st_size}"
        with self._lock:
            if key in self._opened:
                self._opened.move_to_end(key)
                return self._opened[key]
        found = open_image(image.path)
        with self._lock:
            found = self._opened.setdefault(key, found)
            while len(self._opened) > OPENED:
                self._opened.popitem(last=False)  # closed with its last user
        return found

    def facts(self, image: ProjectImage) -> ImageFacts:
        """Return size and um/px of an image, read once."""
        try:
            stat = image.path.stat()
            key = (image.id, stat.st_mtime_ns, stat.st_size)
            if key not in self._facts:
                with open_image(image.path) as opened:
                    self._facts[key] = ImageFacts(opened.shape[1], opened.shape[0], self.known_mpp(image, opened))
            return self._facts[key]
        except (CvmError, OSError) as error:
            return ImageFacts(problem=self.without_folder(str(error)))

    def known_mpp(self, image: ProjectImage, opened: SlideImage) -> float | None:
        """Return the um/px that the file states, else cases.csv; None where neither does."""
        written = self.rows.get(image.name, {}).get("mpp")
        if opened.mpp.value is not None or not written:
            return opened.mpp.value
        return read_number(written, where=image.name, name="mpp")

    def patient(self, image: ProjectImage) -> str:
        """Return the patient of an image: that of the folder's cases.csv, else the image itself."""
        return self.rows.get(image.name, {}).get("patient_id") or image.name

    def without_folder(self, sentence: str) -> str:
        """Shorten the folder's path in a message to what the page's user knows."""
        return sentence.replace(f"{self.folder}/", "")

    def colours(self) -> dict[int, Colour]:
        """Return the colour of each label."""
        return label_colours(self.classes.names, self.classes.colours)


def check_writable(folder: Path) -> None:
    """Check that files can be made in a folder.

    Raises:
        CvmError: they cannot.
    """
    try:
        try_folder(folder)
    except OSError as error:
        raise CvmError(
            f"{folder} cannot be written ({error.strerror}): annotations are saved there; make it writable, or copy it"
        ) from None


def _classes(class_map: Mapping[str, Any]) -> Classes:
    """Return the classes of a class map; a class has the name of its first key, as it is written there."""
    table = label_table(class_map)
    names = list(class_names(class_map))
    for label in range(len(names)):
        written = [key for key in class_map if table[label_key(key)] == label and not str(key).strip().isdecimal()]
        names[label] = str(written[0]) if written else names[label]
    return Classes(table, tuple(names), {**COLOURS, **class_colours(class_map)})
