"""``cvm-monai predict``: segment whole slides and images by a trained network."""

import argparse
import signal
from functools import partial
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.knobs import SLIDE_DEFAULTS

DESCRIPTION = """\
Segment whole slides, tissue only, in bounded memory; SLIDE is a slide, an image, or a folder of them.

Each gets a folder OUT/NAME:
  probability.ome.tif   probability of the target at the network's um/px, tiled and pyramidal
  regions.geojson       the regions, for QuPath and the Digital Slide Archive
  classes.csv           number, area and fraction of tissue of each class
  tissue.geojson        the tissue that was predicted
  overlay.png           an overview of the slide and its regions
  run.json              the settings, every attempt and its outcome

After an interruption, even a kill, the same command resumes; finished slides are skipped. Exit code: 0 where all is
done, 1 where a slide failed or is locked by another process, 2 for wrong input, before any work.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "predict",
        help="segment whole slides by a trained network",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="cvm-monai predict SLIDE ... --model RUN --output OUT [options]",
    )
    parser.add_argument("slides", metavar="SLIDE", nargs="+", help="a slide, an image, or a folder of them")
    parser.add_argument("--model", required=True, metavar="RUN", help="run folder of a training, or a bundle")
    parser.add_argument("--output", required=True, metavar="OUT", help="folder for the results")
    parser.add_argument("--shard", metavar="K/N", help="only the K-th of N shards of the slides, for N jobs at once")
    _add_scale(parser)
    _add_network(parser)
    _add_results(parser)
    parser.set_defaults(run=run)


def _add_scale(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of scale, origin and tissue."""
    parser.add_argument("--mpp", type=float, help="um/px of the slides' level 0, where the file does not state it")
    parser.add_argument("--force_mpp", action="store_true", help="accept an implausible um/px")
    parser.add_argument(
        "--origin",
        default=SLIDE_DEFAULTS["origin"],
        metavar="level0|bounds",
        help="origin of the coordinates of regions and drawn tissue: the corner of level 0, or of the scanned "
        "part of slides such as MRXS, as in QuPath without --no-crop (default level0)",
    )
    parser.add_argument("--model_mpp", type=float, help="um/px of the model's training, where its record lacks it")
    parser.add_argument(
        "--tissue",
        default=SLIDE_DEFAULTS["tissue"],
        metavar="otsu|none|FILE",
        help="find tissue by its colour, predict all of the slide, or your own mask: GeoJSON or a label image, "
        "or a folder with one for each slide (default otsu)",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the network's run."""
    default = SLIDE_DEFAULTS
    parser.add_argument(
        "--window",
        type=int,
        default=default["window"],
        help="side of the tiles, a multiple of 32 (default %(default)s)",
    )
    parser.add_argument(
        "--overlap",
        type=float,
        default=default["overlap"],
        help="overlap of tiles as a fraction of their side, 0 to 0.75 (default %(default)s)",
    )
    parser.add_argument(
        "--batch_size",
        type=int,
        default=default["batch_size"],
        help="tiles at a time (default %(default)s; more on a GPU)",
    )
    parser.add_argument(
        "--num_workers",
        type=int,
        default=default["num_workers"],
        help="threads that read tiles ahead (default %(default)s)",
    )
    parser.add_argument("--device", help="where to compute (default the first GPU, else cpu)")
    parser.add_argument("--amp", action="store_true", help="mixed precision: faster on a GPU")
    parser.add_argument(
        "--test_time_flips", action="store_true", help="average over flips and rotations by 90 degrees, 8 x slower"
    )
    parser.add_argument("--ensemble", nargs="+", metavar="RUN", help="average with the networks of these trainings")


def _add_results(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the results."""
    default = SLIDE_DEFAULTS
    parser.add_argument(
        "--min_area_um2",
        type=float,
        default=default["min_area_um2"],
        help="leave out smaller regions (default %(default)g: one nucleus)",
    )
    parser.add_argument(
        "--simplify_um",
        type=float,
        default=default["simplify_um"],
        help="move borders by at most this when simplifying (default %(default)g; 0: none)",
    )
    parser.add_argument(
        "--class_probabilities", action="store_true", help="with more than two classes, also write a pyramid of each"
    )
    parser.add_argument("--overwrite", action="store_true", help="begin again where other settings left results")


def run(arguments: argparse.Namespace) -> int:
    """Predict the slides; returns 1 where one failed."""
    import torch

    from cvm_monai.files import shorten
    from cvm_monai.inference.whole_slide import load_slide_model, predict_slides

    device = arguments.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError where torch was built without CUDA
        reason = str(error).partition("\n")[0]
        raise CvmError(f"--device {shorten(device)} cannot be used: {reason[:200]}") from None
    model = load_slide_model(
        arguments.model,
        mpp=arguments.model_mpp,
        ensemble=arguments.ensemble,
        flips=arguments.test_time_flips,
        device=device,
        amp=arguments.amp,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: recorded and resumable
    say = partial(print, flush=True)
    report = predict_slides(
        model, arguments.slides, arguments.output, options=_options(arguments), shard=arguments.shard, say=say
    )
    return report.exit_code


def _options(arguments: argparse.Namespace) -> Any:
    """Build the `SlideOptions` from the arguments."""
    from cvm_monai.inference.whole_slide import ResultOptions, SlideOptions

    return SlideOptions(
        window=arguments.window,
        overlap=arguments.overlap,
        batch_size=arguments.batch_size,
        num_workers=arguments.num_workers,
        tissue=arguments.tissue,
        mpp=arguments.mpp,
        force_mpp=arguments.force_mpp,
        origin=arguments.origin,
        results=ResultOptions(
            min_area_um2=arguments.min_area_um2,
            simplify_um=arguments.simplify_um,
            class_probabilities=arguments.class_probabilities,
        ),
        overwrite=arguments.overwrite,
    )
