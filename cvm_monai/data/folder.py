"""Match the files of a user's folder (images, points, masks, cases.csv) by case id; decodes nothing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from cvm_monai.annotations import Annotations, read_points_csv
from cvm_monai.annotations.labels import ClassMap
from cvm_monai.annotations.reader import annotation_suffix
from cvm_monai.data.datalist import KNOWN_KEYS
from cvm_monai.data.output import noted
from cvm_monai.errors import CvmError
from cvm_monai.files import read_number, read_table
from cvm_monai.slides import IMAGE_SUFFIXES, SLIDE_SUFFIXES
from cvm_monai.slides.files import JOINED, Names, below, images_in, normal, other_names, visible

RESERVED_COLUMNS = frozenset(KNOWN_KEYS) - {"case_id", "patient_id", "mpp"} | {"points_source"}

ANNOTATION_SUFFIXES = (".geojson", ".xml", ".gz", ".zip")
"""Suffixes of annotation files, which may lie beside `images/` by mistake; `.json` files there are the project's."""


@dataclass(frozen=True)
class Source:
    """The user's files of one case.

    Attributes:
        points_file: an annotation file of this case alone.
        points: its points in a points.csv; None where there are none.
        novel: a mask of regions unlike anything annotated, in which no points are sampled.
        columns: further columns of cases.csv.
        tissue: a mask of tissue, for a slide that is to be cut.
        sampled: whether points are to be sampled from the mask where there are none.
    """

    case_id: str
    patient_id: str
    image: Path
    points_file: Path | None
    points: Annotations | None
    mask: Path | None
    novel: Path | None
    mpp: float | None
    columns: Mapping[str, str]
    tissue: Path | None = None
    sampled: bool = True


@dataclass(frozen=True)
class Folder:
    """The cases of a folder, and warnings for the user.

    Attributes:
        warnings: all warnings.
        passed_over: those about files and rows without an image, which may explain missing cases.
    """

    sources: tuple[Source, ...]
    warnings: tuple[str, ...]
    passed_over: tuple[str, ...] = ()


def read_folder(
    folder: str | Path, *, classes: ClassMap | None = None, generated: Collection[Path] = (), slides: bool = False
) -> Folder:
    """Match ``images/``, ``points/`` or ``points.csv``, ``masks/``, ``novel/`` and ``cases.csv`` by case id.

    The case id is the image's name without its suffix; if ``images/`` holds only sub-folders it is the path, joined by
    two underscores (``patient/a.svs`` is ``patient__a``). The files of a DICOM series are one image. Annotations, masks
    and rows may use the path, or an unambiguous name, with or without the suffix, see ``slides.files``. Those without
    an image are ignored with a warning; an image without a row in cases.csv is refused, since its patient is unknown.

    Args:
        classes: class map for a points.csv.
        generated: annotation files that an earlier preparation wrote, which are ignored.
        slides: the images are slides to be cut; they may be in ``slides/``, and masks of their tissue in ``tissue/``.

    Raises:
        CvmError: no images, two files for one case, or a bad table, with file and line; its notes are the warnings so
            far.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CvmError(f"{folder} is not a folder; give the one that holds images/")
    warnings: list[str] = []
    with noted(warnings):
        return _read(folder, classes, generated, slides, warnings)


def _read(
    folder: Path, classes: ClassMap | None, generated: Collection[Path], slides: bool, warnings: list[str]
) -> Folder:
    """Do the work of `read_folder`; appends to `warnings`."""
    images, names = _images(_image_folder(folder, slides), slides, warnings)
    tables = _point_tables(folder, names, classes)
    files = _point_files(folder / "points", images, names, generated, warnings)
    masks, novel = (_label_images(folder / name, images, names, warnings) for name in ("masks", "novel"))
    tissue = _point_files(folder / "tissue", images, names, (), warnings) if slides else {}
    rows = _rows(folder / "cases.csv", images, names, warnings)
    beside = {file.name for file in visible(folder, ANNOTATION_SUFFIXES)}
    _warn_unmatched("skipped, annotations are read from points/, one file for each image:", beside, warnings)
    _warn_unmatched("points.csv: no image for case", set(tables) - set(images), warnings)
    both = sorted(set(tables) & set(files))
    if both:
        raise CvmError(f"{files[both[0]]}: case {both[0]} has points in points.csv as well; keep one of the two")
    passed_over = tuple(warnings)
    if not (tables or files or masks):
        near = get_close_matches("points", [path.name for path in folder.iterdir() if path.is_dir()], n=1)
        hint = f": is it {near[0]}/?" if near else ""
        warnings.append(f"nothing is annotated, there is no points/, points.csv or masks/{hint}")
    if not any(row.get("patient_id") for row in rows.values()):
        warnings.append(
            "no patient_id in cases.csv: each image counts as a patient of its own; if some images come from the same "
            "patient the test scores will be too good"
        )
    sources = []
    for case_id, image in images.items():
        row = rows.get(case_id, {})
        mpp = row.get("mpp")
        columns = {name: text for name, text in row.items() if name not in ("case_id", "patient_id", "mpp")}
        sources.append(
            Source(
                case_id=case_id,
                patient_id=row.get("patient_id", case_id),
                image=image,
                points_file=files.get(case_id),
                points=tables.get(case_id),
                mask=masks.get(case_id),
                novel=novel.get(case_id),
                mpp=float(mpp) if mpp else None,
                columns=columns,
                tissue=tissue.get(case_id),
            )
        )
    return Folder(tuple(sources), tuple(warnings), passed_over)


def _image_folder(folder: Path, slides: bool) -> Path:
    """Return the folder of the images."""
    names = ("slides", "images") if slides else ("images",)
    found = [folder / name for name in names if (folder / name).is_dir()]
    if not found:
        raise CvmError(f"{folder} has no folder {names[-1]}/; put the images there, one file for each case")
    if len(found) > 1:
        raise CvmError(f"{folder} has slides/ and images/; keep the slides in one of the two")
    return found[0]


def _images(folder: Path, slides: bool, warnings: list[str]) -> tuple[dict[str, Path], Names]:
    """Find the image of each case id, sorted by name, and all names of the images."""
    known = tuple(dict.fromkeys((*IMAGE_SUFFIXES, *SLIDE_SUFFIXES))) if slides else IMAGE_SUFFIXES
    found, every = images_in(folder, known), visible(folder)
    images = _unique({image.path: normal(image.name) for image in found})
    other = {file.name for file in every if file.suffix.lower() not in known}
    if not images:
        below_too = any(map(_is_slide, {*other, *(file.name for file in below(folder))}))
        cut = "; it holds slides: give --mpp 0.5 to cut tiles from them" * below_too
        raise CvmError(f"{folder} holds no image; known kinds are {', '.join(known)}{cut}")
    _warn_unmatched(f"{folder.name}/: skipped, not a known kind of image:", other, warnings)
    if len(every) > len(other):
        inner = {file.relative_to(folder).as_posix() for file in below(folder, known)}
        what = f"{folder.name}/: skipped, in sub-folders beside images in {folder.name}/ itself:"
        _warn_unmatched(what, inner, warnings)
    return images, Names(images, other_names(found, folder))


def _is_slide(name: str) -> bool:
    return Path(name).suffix.lower() in SLIDE_SUFFIXES


def _label_images(folder: Path, images: Mapping[str, Path], names: Names, warnings: list[str]) -> dict[str, Path]:
    """Find the mask of each case id that has one."""
    files = [file for file in _everywhere(folder) if file.suffix.lower() in IMAGE_SUFFIXES]
    found = _unique({file: _owner(file, folder, file.suffix, names) for file in files})
    _warn_unmatched(f"{folder.name}/: no image for", {found[key].name for key in set(found) - set(images)}, warnings)
    return found


def _point_files(
    folder: Path, images: Mapping[str, Path], names: Names, generated: Collection[Path], warnings: list[str]
) -> dict[str, Path]:
    """Find the annotation file of each case id; `a.geojson` and `a.png.geojson` both belong to the image a.png."""
    owners: dict[Path, str] = {}
    other: set[str] = set()
    for file in _everywhere(folder):
        if file.name == "points.csv" or file.resolve() in generated:
            continue
        if suffix := annotation_suffix(file):
            owners[file] = _owner(file, folder, suffix, names)
        else:
            other.add(file.name)
    found = _unique({file: owner for file, owner in owners.items() if owner in images})
    _warn_unmatched(f"{folder.name}/: skipped, not a known kind of annotation file:", other, warnings)
    _warn_unmatched(
        f"{folder.name}/: no image for", {file.name for file in owners if owners[file] not in images}, warnings
    )
    return found


def _point_tables(folder: Path, names: Names, classes: ClassMap | None) -> dict[str, Annotations]:
    """Read the points of each case id from points.csv, in the folder or in points/."""
    tables = [file for file in (folder / "points.csv", folder / "points" / "points.csv") if file.is_file()]
    if len(tables) > 1:
        raise CvmError(f"{tables[0]} and {tables[1]} both exist; keep one of the two")
    found: dict[str, Annotations] = {}
    written: dict[str, str] = {}
    for name, points in read_points_csv(tables[0], classes=classes).items() if tables else ():
        case_id = names.find(name) or name
        if case_id in found:
            raise CvmError(f"{tables[0]}: {written[case_id]} and {name} are the same case; write one of the two")
        found[case_id], written[case_id] = points, name
    return found


def _rows(path: Path, images: Mapping[str, Path], names: Names, warnings: list[str]) -> dict[str, dict[str, str]]:
    """Read the row of each case id in cases.csv; empty without the file."""
    if not path.is_file():
        return {}
    rows: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    for line, row in read_table(path, required=("case_id",)):
        where, case_id = f"{path}, line {line}", names.find(row["case_id"]) or row["case_id"]
        reserved = sorted(RESERVED_COLUMNS & set(row))
        if reserved:
            raise CvmError(f"{path}, line 1: the column name {reserved[0]!r} is reserved for the data list; rename it")
        if not case_id:
            raise CvmError(f"{where}: the case_id is empty")
        if case_id in rows:
            raise CvmError(f"{where}: case {case_id} is already in line {lines[case_id]}")
        if row.get("patient_id") == "":
            raise CvmError(f"{where}: the patient_id of case {case_id} is empty; fill it in or remove the column")
        if row.get("mpp"):
            mpp = read_number(row["mpp"], where=where, name="mpp")
            if mpp <= 0:
                raise CvmError(f"{where}: mpp (micrometres per pixel) must be above 0, got {row['mpp']}")
            row["mpp"] = str(mpp)
        rows[case_id], lines[case_id] = row, line
    missing = [case_id for case_id in images if case_id not in rows]
    if missing:
        raise CvmError(
            f"{path} has no row for {len(missing)} image(s), the first is {images[missing[0]].name} "
            f"(case_id {missing[0]}); add the rows, or remove the images"
        )
    _warn_unmatched("cases.csv: no image for case", set(rows) - set(images), warnings)
    return rows


def _everywhere(folder: Path) -> list[Path]:
    """List the files of a folder and of its sub-folders."""
    return [*visible(folder), *below(folder)]


def _owner(file: Path, folder: Path, suffix: str, names: Names) -> str:
    """Return the case id of the image that a file is named after, else the file's name (in a sub-folder its path)."""
    name = JOINED.join(file.relative_to(folder).parts)[: -len(suffix)]
    return names.find(name) or normal(name)


def _unique(owners: Mapping[Path, str]) -> dict[str, Path]:
    """Invert to case id -> file; refuses two files of one case."""
    found: dict[str, Path] = {}
    for file, case_id in owners.items():
        if case_id in found:
            raise CvmError(f"{found[case_id]} and {file} both belong to case {case_id}; rename or remove one")
        found[case_id] = file
    return found


def _warn_unmatched(what: str, names: Collection[str], warnings: list[str]) -> None:
    """Add one warning for everything that was ignored."""
    if names:
        shown = sorted(names)
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        warnings.append(f"{what} {', '.join(shown[:5])}{more}")
