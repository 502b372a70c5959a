"""Result of one check."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: of what was checked.
        status: PASS; WARN where a training runs with limits; FAIL where it cannot run.
        detail: the facts found.
        remedy: what to do; empty where the status is PASS.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
