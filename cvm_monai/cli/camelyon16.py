"""``cvm-monai camelyon16``: make the paper's data set from the public slides."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Cut crops around the lesions of Camelyon16's positive slides, draw their masks from the XML files (exclusions are
background), sample points from the masks, write OUT/manifest.csv and OUT/datalist.json. Each slide is a patient.

The paper has 193 crops of 158 slides and does not say how they were chosen: here the crops with most tumour are taken.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "camelyon16",
        help="make the paper's data set from Camelyon16's slides",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("slides", metavar="SLIDES", help="folder of the slides, such as tumor_001.tif")
    parser.add_argument("annotations", metavar="XML", help="folder of the annotations, such as tumor_001.xml")
    parser.add_argument("--output", required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--size", type=int, default=4096, help="side of a crop in pixels (default 4096)")
    parser.add_argument("--mpp", type=float, default=0.5, help="um/px of the crops (default 0.5, about 20x)")
    parser.add_argument(
        "--crops_per_slide", type=int, default=2, metavar="N", help="maximum number of crops per slide (default 2)"
    )
    parser.add_argument("--pairs", type=int, default=3, help="points sampled of each class (default 3)")
    parser.add_argument("--folds", type=int, default=4, help="number of folds (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of folds and sampling (default 0)")
    parser.add_argument(
        "--shard",
        metavar="K/N",
        help="cut this part of the slides, for array jobs; without it the data set is prepared",
    )
    parser.add_argument("--classes", metavar="MAP", default="camelyon16", help="another class map, see prepare")
    parser.add_argument("--unclassified", metavar="CLASS", help="meaning of annotations without a group")
    parser.add_argument("--image_mpp", type=float, help="um/px of slides whose file does not state it")
    parser.add_argument(
        "--force_mpp", action="store_true", help="prefer --image_mpp to the file, accept any um/px and any enlargement"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Cut the crops, prepare the data set and print the report."""
    from cvm_monai.annotations.class_map import read_class_map
    from cvm_monai.data.camelyon import camelyon16
    from cvm_monai.data.datalist import FILE_NAME
    from cvm_monai.data.slide_plan import CutSettings
    from cvm_monai.data.tiles import check_tile_size
    from cvm_monai.runs import OutputRecord

    record = OutputRecord.of_command("camelyon16", arguments)
    check_tile_size(arguments.size, "--size")
    settings = CutSettings(
        mpp=arguments.mpp,
        tile=arguments.size,
        image_mpp=arguments.image_mpp,
        force_mpp=arguments.force_mpp,
        region_masks=True,
    )
    report = camelyon16(
        arguments.slides,
        arguments.annotations,
        out=arguments.output,
        settings=settings,
        crops_per_slide=arguments.crops_per_slide,
        pairs=arguments.pairs,
        folds=arguments.folds,
        seed=arguments.seed,
        shard=arguments.shard,
        classes=read_class_map(arguments.classes, unclassified=arguments.unclassified) or {},
    )
    print(report)
    if report.prepared is None:
        return 0
    record.write(Path(arguments.output), data={FILE_NAME: Path(arguments.output, FILE_NAME)})
    return 0
