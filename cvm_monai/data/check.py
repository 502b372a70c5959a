"""Check the files of one case, and sample points where it has none; writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvm_monai.annotations import BACKGROUND, TARGET, UNLABELLED, Annotations, Point, Region, describe, read_annotations
from cvm_monai.annotations.labels import ClassMap, class_names, label_key, label_number, label_table
from cvm_monai.annotations.nesting import with_overlaps
from cvm_monai.annotations.outside import not_one_inside, reaches
from cvm_monai.data.folder import Source
from cvm_monai.data.sampling import sample_points
from cvm_monai.errors import CvmError
from cvm_monai.slides import Picture, read_mask, read_picture
from cvm_monai.slides.resolution import DISAGREE

Outside = Literal["drop", "refuse"]
"""What to do with points that lie outside their image."""

Origin = Literal["file", "cleaned", "sampled"]
"""The user's own file; a file written from the user's points; a file written with sampled points."""


@dataclass(frozen=True)
class CheckedCase:
    """A case whose files were read and checked.

    Attributes:
        annotations: None for an unlabelled case.
        origin: where the annotations come from; None for an unlabelled case.
        rewritten: whether the class map makes the mask differ from the file's "not 0"; with more than two classes: its
            class numbers from the file's. `mapped_mask` reads it again: the masks of all cases would fill the memory.
        dropped: message for each annotation left out because it lies outside the image.
        left_out: annotations of other kinds, and repaired outlines, by kind.
        read: summary of the user's own annotations; None where there are none.
        mpp: um/px of cases.csv, else of the image's file.
        unbelieved: the file's um/px if implausible for a microscope and not replaced by cases.csv.
        warnings: messages for the user about the image.
    """

    source: Source
    annotations: Annotations | None
    origin: Origin | None
    rewritten: bool
    dropped: tuple[str, ...]
    left_out: Mapping[str, int]
    read: str | None = None
    mpp: float | None = None
    unbelieved: float | None = None
    warnings: tuple[str, ...] = ()


def check_case(
    source: Source,
    *,
    pairs: int,
    seed: int,
    classes: ClassMap | None,
    outside: Outside,
    min_distance: float,
) -> CheckedCase:
    """Decode the image, compare the masks' sizes with it, read the points or sample them.

    Raises:
        CvmError: a file that cannot be read, a mask of another size, an unknown label, or, with `outside="refuse"`,
            a point outside the image.
    """
    picture = read_picture(source.image)
    height, width = picture.pixels.shape[:2]
    names = class_names(classes)
    stored, mask = _masks(source, (height, width), classes)
    novel = None if source.novel is None else _novel(source, (height, width))
    found = source.points
    if source.points_file is not None:
        found = with_overlaps(read_annotations(source.points_file, classes=classes), file=source.points_file)
    kept, dropped = keep_inside(found or Annotations(), (height, width), case_id=source.case_id, names=list(names))
    file = source.points_file or "points.csv"
    if dropped and outside == "refuse":
        raise CvmError(f"{file}: {dropped[0]}; correct it, or leave such annotations out by --outside drop")
    if dropped and found and not kept.points and not kept.regions:
        raise CvmError(not_one_inside(found, (height, width), source=file, image=source.image))
    origin: Origin | None = None
    if kept.points or kept.regions:
        origin = "file" if source.points_file and not dropped and _reads_alike(source, kept, names) else "cleaned"
    elif mask is not None and source.sampled:
        points = sample_points(
            mask if novel is None else np.where(novel, 255, mask),
            case_id=source.case_id,
            pairs=pairs,
            seed=seed,
            min_distance=min_distance,
            classes=len(names),
        )
        kept, origin = Annotations(points), "sampled"
    return CheckedCase(
        source=source,
        annotations=kept if origin else None,
        origin=origin,
        rewritten=stored is not None and bool((stored != mask).any()),
        dropped=dropped,
        left_out=found.counts if found else {},
        read=describe(found, names=names, image_shape=(height, width)) if found else None,
        mpp=picture.mpp if source.mpp is None else source.mpp,
        unbelieved=picture.unbelieved if source.mpp is None else None,
        warnings=_image_warnings(source, picture),
    )


def _image_warnings(source: Source, picture: Picture) -> tuple[str, ...]:
    """Make the warnings about an image: how it was read, and whether its um/px differs from the listed one."""
    said, listed = picture.mpp, source.mpp
    if said is None or listed is None or abs(listed - said) <= DISAGREE * said:
        return picture.warnings
    return (
        *picture.warnings,
        f"{source.image}: cases.csv says {listed:g} um/px, which is used; the file says {said:g}",
    )


def keep_inside(
    annotations: Annotations,
    image_shape: tuple[int, int],
    *,
    case_id: str,
    names: Sequence[str] = ("background", "target"),
) -> tuple[Annotations, tuple[str, ...]]:
    """Leave out points outside the image and regions that do not reach it, with a message for each.

    `names` are the class names, by number.
    """
    height, width = image_shape
    size = f"outside the image of {width} x {height} px"
    dropped = []

    def inside(point: Point) -> bool:
        if reaches(point, image_shape):
            return True
        dropped.append(f"case {case_id}: {names[point.label]} point ({point.x:g}, {point.y:g}) {size}")
        return False

    def touches(region: Region) -> bool:
        if reaches(region, image_shape):
            return True
        x, y = zip(*region.exterior, strict=True)
        dropped.append(f"case {case_id}: region around ({min(x):g}, {min(y):g}) {size}")
        return False

    points = tuple(point for point in annotations.points if inside(point))
    regions = tuple(region for region in annotations.regions if touches(region))
    return Annotations(points, regions, annotations.counts, annotations.colours), tuple(dropped)


def binary_mask(mask: np.ndarray, *, classes: ClassMap | None = None, where: str = "mask") -> np.ndarray:
    """Convert a mask to 0 and 1, (H, W) uint8: 0 is background, anything else target, unless the class map differs.

    Args:
        classes: class map; keys that are whole numbers, such as ``{"2": "background"}``, refer to mask values.
        where: the file, for the error message.

    Raises:
        CvmError: a value of the mask that the class map maps to anything else than target or background.
    """
    binary = (mask != 0).astype(np.uint8)
    table = label_table(classes)
    for key, meaning in (classes or {}).items():
        name = label_key(key)
        value = label_number(name)
        if value is None or not (here := mask == value).any():
            continue
        if table[name] not in (BACKGROUND, TARGET):
            raise CvmError(f"{where}: a mask holds only target and background, the class map says {name}: {meaning}")
        binary[here] = table[name]
    return binary


def class_mask(mask: np.ndarray, *, classes: ClassMap, where: str = "mask") -> np.ndarray:
    """Convert a mask of more than two classes to class numbers, (H, W) uint8; the class map may rename values.

    255 is unlabelled, and so is a value that the class map maps to an exclusion.

    Args:
        classes, where: as in `binary_mask`.

    Raises:
        CvmError: a value that is not a class, or that the class map maps to `skip`.
    """
    table, count = label_table(classes), len(class_names(classes))
    known = {label: label for label in (*range(count), UNLABELLED)}
    known |= {number: index for name, index in table.items() if (number := label_number(name)) is not None}
    labels = np.full(mask.shape, UNLABELLED, dtype=np.uint8)
    for value in np.unique(mask).tolist():
        index = known.get(value)
        if index is None or index < 0:
            raise CvmError(
                f"{where}: the value {value} is not a class; the {count} classes have the values 0 to {count - 1}, map "
                f"others by --classes '{{\"{value}\": 1}}'"
            )
        labels[mask == value] = index
    return labels


def mapped_mask(source: Source, *, classes: ClassMap | None) -> np.ndarray:
    """Read a case's mask by the class map: 0 and 1, or class numbers where there are more than two classes.

    Raises:
        CvmError: a mask that cannot be read, or a value without a class.
    """
    assert source.mask is not None
    return _mapped(read_mask(source.mask), source, classes)


def _masks(
    source: Source, image_shape: tuple[int, int], classes: ClassMap | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the mask as training would read the user's file, and by the class map; both None where there is none."""
    mask = _mask(source, image_shape)
    if mask is None:
        return None, None
    stored = mask if len(class_names(classes)) > 2 else (mask != 0).astype(np.uint8)
    return stored, _mapped(mask, source, classes)


def _mapped(mask: np.ndarray, source: Source, classes: ClassMap | None) -> np.ndarray:
    """Convert the values of a mask by the class map."""
    if len(class_names(classes)) > 2:
        return class_mask(mask, classes=classes or {}, where=str(source.mask))
    return binary_mask(mask, classes=classes, where=str(source.mask))


def _mask(source: Source, image_shape: tuple[int, int]) -> np.ndarray | None:
    """Read the mask as stored, and check that it has the image's size."""
    return None if source.mask is None else _same_size(read_mask(source.mask), source.mask, image_shape)


def _novel(source: Source, image_shape: tuple[int, int]) -> np.ndarray:
    """Read the novel mask as (H, W) bool, and check that it has the image's size."""
    assert source.novel is not None
    return _same_size(read_mask(source.novel), source.novel, image_shape) != 0


def _same_size(mask: np.ndarray, path: object, image_shape: tuple[int, int]) -> np.ndarray:
    if mask.shape != image_shape:
        raise CvmError(
            f"{path} has {mask.shape[1]} x {mask.shape[0]} px, its image has {image_shape[1]} x {image_shape[0]} px: "
            "they must be equal"
        )
    return mask


def _reads_alike(source: Source, annotations: Annotations, names: Mapping[str, int]) -> bool:
    """Whether training, which knows only the data list's classes, would read the same from the user's own file."""
    assert source.points_file is not None
    if source.points_file.suffix.lower() == ".csv":
        return False
    try:
        plain = read_annotations(source.points_file, classes=names)
    except ValueError:
        return False
    return (plain.points, plain.regions) == (annotations.points, annotations.regions)
