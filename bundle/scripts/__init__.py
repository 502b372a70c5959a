"""Functions that the configurations call: checks before a run, and errors turned into exit codes."""

from .before_inference import inference_checks
from .before_slides import slide_checks
from .before_training import preflight
from .meeting import meet, part
from .places import check_places
from .run_engine import launch

__all__ = ["check_places", "inference_checks", "launch", "meet", "part", "preflight", "slide_checks"]
