"""Write the report as one self-contained HTML page, without other files, scripts or network access."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from cvm_monai.experiments.plan import title
from cvm_monai.experiments.result_tables import ResultTable
from cvm_monai.experiments.table import UPPER_BOUND, Table, cell, folds, left_out_notes
from cvm_monai.metrics import METRICS
from cvm_monai.metrics.tables import MEANINGS, TITLES

REM_PER_INCH = 6
"""Display size of figures, at which their text is readable; wide ones scroll."""
LONG_TEXT = 40
"""Characters above which a cell wraps its text."""


@dataclass(frozen=True)
class Picture:
    """A figure with its heading, the sentence under it, and the name of its own file."""

    heading: str
    figure: Figure
    caption: str
    file: str

    @cached_property
    def png(self) -> bytes:
        """The figure as PNG, drawn once for the page and the file."""
        stream = BytesIO()
        self.figure.savefig(stream, format="png", dpi=self.figure.dpi, metadata={"Software": None})
        return stream.getvalue()


def make_page(
    name: str, table: Table, pictures: Sequence[Picture], findings: Sequence[ResultTable], commands: Sequence[str]
) -> str:
    """Build the page: description, table, figures, statistics, and the commands to repeat each training.

    The markup is the template `page.html.j2` beside this file; every text is escaped there.
    """
    environment = Environment(
        loader=PackageLoader("cvm_monai.experiments", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["code"] = _code
    shown = [(picture, base64.b64encode(picture.png).decode("ascii"), _width(picture.figure)) for picture in pictures]
    return (
        environment.get_template("page.html.j2").render(
            title=name,
            table=table,
            columns=[TITLES[metric] for metric in METRICS],
            rows=[_row(table, arm) for arm in [*table.weak, *([table.upper] if table.upper else [])]],
            upper_bound=UPPER_BOUND,
            notes=[*left_out_notes(table), *(f"{TITLES[metric]}: {MEANINGS[metric]}" for metric in METRICS)],
            pictures=shown,
            findings=findings,
            long_text=LONG_TEXT,
            commands="\n".join(commands),
        )
        + "\n"
    )


def _row(table: Table, arm: str) -> dict[str, Any]:
    """Build one method's row: its cells with their text and whether each is the best of its column."""
    apart = arm == table.upper
    cells = [(cell(table.means[arm][name]), not apart and arm == table.best(name)) for name in METRICS]
    return {"arm": arm, "title": title(arm), "apart": apart, "cells": cells, "folds": folds(table, arm)}


def _width(figure: Figure) -> int:
    """Width of a figure in rem."""
    return round(REM_PER_INCH * float(figure.get_size_inches()[0]))


def _code(text: str) -> Markup:
    """Escape a text, with words between backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    marked = (Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts))
    return Markup("").join(marked)
