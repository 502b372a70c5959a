"""Checks of a whole-slide inference before the slides are opened."""

from cvm_monai.engines.workflow import running_parser

from .before_inference import check_inference_knobs
from .errors import exit_on_error
from .places import begin


def slide_checks() -> None:
    """Check the knobs, the network and its weights; the slides are checked when the run begins, before any tile.

    All are instantiated here, by their ids in the running configuration, so that any error ends as one sentence.
    """
    parser = running_parser("slide_checks")
    begin()
    with exit_on_error():
        check_inference_knobs(parser.get_parsed_content("knobs"), "inference_wsi")
        parser.get_parsed_content("engine")
