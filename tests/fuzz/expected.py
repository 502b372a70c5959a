"""How each case must end: with code 0, 1 or 2, or at the first training that a comparison would start."""

import json
from pathlib import Path

from cvm_monai.cli.main import INTERRUPTED

from .cases import SEED
from .watch import Outcome

CODES: dict[str, str] = json.loads((Path(__file__).parent / "expected_codes.json").read_text())
"""By surface, one character for each case of seed 0: `0` it works, `1` the doctor finds what is wrong or a slide of
several fails, `2` it is refused with one sentence, `t` a first training would begin."""


def check_code(surface: str, number: int, outcome: Outcome) -> None:
    """The case ends as it must; another seed's cases, whose end nobody has looked at, with any of the four."""
    code = "t" if outcome.code == INTERRUPTED else str(outcome.code)
    expected = CODES[surface][number] if SEED == 0 else "012t"
    said = (outcome.err or outcome.out).strip()[-500:]
    assert code in tuple(expected), f"{surface} {number} must end with {expected}, not {code}: {said}"
