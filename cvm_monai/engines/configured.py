"""The knobs of the run that is configured, each looked up once."""

from typing import Any

from monai.bundle import ConfigParser

from cvm_monai.engines.workflow import active_parser
from cvm_monai.knobs import names
from cvm_monai.networks.extractor_files import absolute_extractor

FILES_OR_NAMES = ("encoder_weights", "extractor_path", "extractor_weights")
"""Knobs that are recorded with their whole path where they name a file, with a revision where they name weights."""


def run_knobs(run: str = "training") -> dict[str, Any]:
    """{name: value} of all knobs of the running configuration that are recorded, in the order of `cvm_monai.knobs`.

    Args:
        run: the run id whose knobs they are.

    Raises:
        RuntimeError: outside of a bundle's run.
    """
    parser = active_parser()
    if parser is None:
        raise RuntimeError("run_knobs is called from a bundle's configuration, by python -m monai.bundle run")
    return {name: _value(parser, name) for name in names(run=run, recorded=True) if name in parser}


def _value(parser: ConfigParser, name: str) -> Any:
    value = parser.get_parsed_content(name)
    return absolute_extractor(value) if name in FILES_OR_NAMES else value
