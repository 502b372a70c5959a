"""Where the MONAI bundle's own files lie: beside the package in a checkout, inside it where it was installed."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
BESIDE, INSIDE = PACKAGE.parent / "bundle", PACKAGE / "bundle"


def bundle_folder() -> Path | None:
    """The folder that holds `configs/`, `scripts/` and `docs/`; None where this copy of the package came without."""
    return next((folder for folder in (BESIDE, INSIDE) if (folder / "configs" / "train.json").is_file()), None)


def checked_bundle(folder: Path | None = None) -> Path:
    """`folder`, or where it is None the package's own bundle.

    Raises:
        ValueError: no bundle there.
    """
    found = folder or bundle_folder()
    if found is None or not (found / "configs" / "inference.json").is_file():
        where = f"in {found}" if found else "beside the package"
        raise ValueError(f"there is no MONAI bundle {where}: name its folder by --bundle")
    return found.resolve()
