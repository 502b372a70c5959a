"""``cvm-monai prepare``: check a folder of images and points, and write its data list."""

import argparse
from pathlib import Path
from typing import Any

from cvm_monai.errors import CvmError

DESCRIPTION = """\
Check a folder, sample points where an image has a mask only, assign folds by patient, write OUT/datalist.json.

DIR holds
  images/    PNG, JPEG, BMP or flat TIFF; the name without its suffix is the case id
  points/    one annotation file for each image: GeoJSON (QuPath: File > Export objects as GeoJSON), ASAP's XML,
             the Digital Slide Archive's JSON, CSV or a label image; or points.csv with the columns case_id,x,y,label
  masks/     optional label images, 0 = background, anything else = target;
             with further classes the value c is class c
  cases.csv  optional: case_id, patient_id, mpp (um/px) and any further columns

With --mpp the images are slides (SVS, NDPI, MRXS, SCN, CZI, DICOM, pyramidal TIFF), in slides/ or images/; annotations
are in level-0 pixels. Tiles around them are cut at exactly that um/px into OUT.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "prepare",
        help="check your images and points, and write a data list",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", help="your folder; nothing is written there")
    parser.add_argument("--output", required=True, metavar="OUT", help="folder for datalist.json and sampled points")
    parser.add_argument("--pairs", type=int, default=5, help="points sampled of each class from a mask (default 5)")
    parser.add_argument(
        "--folds",
        type=int,
        default=4,
        help="number of folds (default 4); of one patient 1 trains on all without a test",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of folds and sampling (default 0)")
    parser.add_argument(
        "--classes",
        metavar="MAP",
        help="""what your labels mean: JSON such as '{"Tumor": "target", "Stroma": "background"}', pairs such as """
        "Tumor=target,Stroma=background, a JSON or CSV file, or a ready map (camelyon16, camelyon17); meanings are "
        "target, background, exclusion, skip, or the number of a further class from 2",
    )
    parser.add_argument("--unclassified", metavar="CLASS", help="meaning of annotations without a label")
    parser.add_argument(
        "--outside",
        metavar="drop|refuse",
        default="drop",
        help="points outside their image: leave them out with a warning, or stop (default drop)",
    )
    slides = parser.add_argument_group("slides, cores and crops")
    slides.add_argument("--mpp", type=float, help="um/px of the tiles to cut: 0.5 is about 20x, 0.25 about 40x")
    size = slides.add_mutually_exclusive_group()
    size.add_argument("--tile", type=int, metavar="PX", help="side of a tile, a multiple of 32 from 64 (default 1024)")
    size.add_argument("--whole", action="store_true", help="each slide, a core or crop, becomes one image")
    slides.add_argument("--image_mpp", type=float, help="um/px of slides without it in file and cases.csv")
    slides.add_argument(
        "--force_mpp",
        action="store_true",
        help="prefer cases.csv and --image_mpp to the file, accept any um/px and any enlargement",
    )
    slides.add_argument(
        "--tissue_tiles",
        type=int,
        default=0,
        metavar="N",
        help="further tiles of each slide, on tissue without annotations, for scores where there are masks; tissue is "
        "found, or drawn in tissue/ (default 0)",
    )
    slides.add_argument(
        "--origin",
        metavar="level0|bounds",
        help="what your annotations and drawn tissue count from: the corner of level 0, or of the scanned part of "
        "slides such as MRXS, as QuPath does unless told --no-crop (default level0)",
    )
    slides.add_argument(
        "--region_masks",
        action="store_true",
        help="your regions are exhaustive: draw masks from them; pixels outside every region are background",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prepare the data set and print the report."""
    from cvm_monai.annotations.class_map import read_class_map
    from cvm_monai.data.datalist import FILE_NAME
    from cvm_monai.runs import OutputRecord

    record = OutputRecord.of_command("prepare", arguments)
    options = {name: getattr(arguments, name) for name in ("pairs", "folds", "seed", "outside")}
    options["out"] = arguments.output
    options["classes"] = read_class_map(arguments.classes, unclassified=arguments.unclassified)
    print(_slides(arguments, options) if _about_slides(arguments) else _images(arguments, options))
    record.write(Path(arguments.output), data={FILE_NAME: Path(arguments.output, FILE_NAME)})
    return 0


def _about_slides(arguments: argparse.Namespace) -> bool:
    """Whether to cut tiles from slides.

    Raises:
        CvmError: an option of slides without ``--mpp``.
    """
    if arguments.mpp is None:
        for name in ("tile", "whole", "image_mpp", "force_mpp", "tissue_tiles", "origin", "region_masks"):
            if getattr(arguments, name) not in (None, False, 0):
                raise CvmError(
                    f"--{name} is an option for slides: give the um/px of the tiles too, for example --mpp 0.5"
                )
    return arguments.mpp is not None


def _images(arguments: argparse.Namespace, options: dict[str, Any]) -> object:
    from cvm_monai.data.prepare import prepare

    return prepare(arguments.folder, **options)


def _slides(arguments: argparse.Namespace, options: dict[str, Any]) -> object:
    from cvm_monai.data.prepare_slides import prepare_slides
    from cvm_monai.data.slide_plan import CutSettings

    settings = CutSettings(
        mpp=arguments.mpp,
        tile=None if arguments.whole else 1024 if arguments.tile is None else arguments.tile,
        image_mpp=arguments.image_mpp,
        force_mpp=arguments.force_mpp,
        tissue_tiles=arguments.tissue_tiles,
        region_masks=arguments.region_masks,
        origin=arguments.origin or "level0",
    )
    return prepare_slides(arguments.folder, settings=settings, **options)
