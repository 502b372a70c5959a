"""``cvm-monai prepare``: from a folder of images and clicks to a checked data list."""

import argparse
from typing import Any

DESCRIPTION = """\
Check a folder, sample points where an image has a mask only, assign folds by patient, write OUT/datalist.json.

DIR holds
  images/    PNG, JPEG, BMP or flat TIFF; the name without its suffix is the case id
  points/    one annotation file for each image: GeoJSON (QuPath: File > Export objects as GeoJSON), ASAP's XML,
             the Digital Slide Archive's JSON, CSV or a label image; or points.csv with the columns case_id,x,y,label
  masks/     optional label images, 0 = background, anything else = target;
             with further classes the value c is class c
  cases.csv  optional: case_id, patient_id, mpp (um/px) and whatever else you keep
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
    parser.add_argument("--out", required=True, metavar="OUT", help="folder for datalist.json and sampled points")
    parser.add_argument("--pairs", type=int, default=5, help="points sampled of each class from a mask (default 5)")
    parser.add_argument("--folds", type=int, default=4, help="number of folds (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of folds and sampling (default 0)")
    parser.add_argument(
        "--classes",
        metavar="MAP",
        help="""what your labels mean: JSON such as '{"Tumor": "target", "Stroma": "background"}', pairs such as """
        "Tumor=target,Stroma=background, a JSON or CSV file, or a ready map (camelyon16, camelyon17); meanings are "
        "target, background, exclusion, skip, or the number of a further class from 2",
    )
    parser.add_argument("--unclassified", metavar="CLASS", help="what annotations without a label mean")
    parser.add_argument(
        "--outside",
        metavar="drop|refuse",
        default="drop",
        help="points outside their image: leave them out and say so, or stop (default drop)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prepare and print the report."""
    from cvm_monai.annotations.class_map import read_class_map
    from cvm_monai.data.prepare import prepare

    report = prepare(
        arguments.folder,
        out=arguments.out,
        pairs=arguments.pairs,
        folds=arguments.folds,
        seed=arguments.seed,
        classes=read_class_map(arguments.classes, unclassified=arguments.unclassified),
        outside=arguments.outside,
    )
    print(report)
    return 0
