"""What the configurations need beyond a class: checks before a run, and errors turned into exit codes."""

from .launch import launch
from .preflight import preflight

__all__ = ["launch", "preflight"]
