"""What the configurations need beyond a class: checks before a run, and errors turned into exit codes."""

from .before_inference import inference_checks
from .before_slides import slide_checks
from .before_training import preflight
from .meeting import meet, part
from .run_engine import launch

__all__ = ["inference_checks", "launch", "meet", "part", "preflight", "slide_checks"]
