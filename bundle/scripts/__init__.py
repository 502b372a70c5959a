"""What the configurations need beyond a class: checks before a run, and errors turned into exit codes."""

from .inference_checks import inference_checks
from .launch import launch
from .preflight import preflight
from .slide_checks import slide_checks

__all__ = ["inference_checks", "launch", "preflight", "slide_checks"]
