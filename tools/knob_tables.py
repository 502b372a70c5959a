"""Write the lists of knobs in the bundle's documents from `cvm_monai/knobs.py`.

    python tools/knob_tables.py

A test holds the documents equal to what this writes.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from cvm_monai.knob_kinds import Choice, Computed, Knob
from cvm_monai.knobs import EVALUATION, GROUPS, INFERENCE, PROCESSES, SLIDES

DOCUMENT = Path(__file__).resolve().parents[1] / "bundle" / "docs" / "README.md"
BEGIN = "<!-- The lists of knobs: made by tools/knob_tables.py from cvm_monai/knobs.py, not by hand. -->"
END = "<!-- The end of the lists of knobs. -->"
OTHERS: Mapping[str, Mapping[str, Knob]] = {
    "Of `evaluating`": EVALUATION,
    "Of several processes": PROCESSES,
    "Of `inference`": INFERENCE,
    "Of `inference_wsi`": SLIDES,
}


def generated() -> str:
    """All lists, those of a training first."""
    return "\n".join(line for title, group in {**GROUPS, **OTHERS}.items() for line in _list(title, group.values()))


def _list(title: str, knobs: Iterable[Knob]) -> list[str]:
    return [f"### {title}", "", *map(_item, knobs), ""]


def _item(knob: Knob) -> str:
    return f"- **`{knob.name}`** ({default_words(knob)}; {range_words(knob)}): {knob.help}"


def default_words(knob: Knob) -> str:
    """The default as documents show it."""
    value = knob.default
    if isinstance(value, Computed):
        return value.words
    if isinstance(value, str):
        return f"`{value}`"
    return "null" if value is None else str(value) if isinstance(value, bool) else json.dumps(value)


def range_words(knob: Knob) -> str:
    """What the knob may hold, as documents show it."""
    words = ", ".join(f"`{word}`" for word in knob.kind.of) if isinstance(knob.kind, Choice) else knob.kind.words
    return f"null or {words}" if knob.null else words


def main() -> None:
    """Put the lists where they stand in the document."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{generated()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
