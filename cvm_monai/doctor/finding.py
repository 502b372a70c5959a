"""What one check found."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: of what was looked at.
        status: FAIL where a training cannot run, WARN where it can but not well.
        detail: what was found.
        remedy: what to do about it; empty where the status is PASS.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
