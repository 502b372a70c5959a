"""One HTML page with everything in it: no file beside it, no script, no network."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from string import Template

from matplotlib.figure import Figure

from cvm_monai.experiments.findings import Finding
from cvm_monai.experiments.names import title
from cvm_monai.experiments.table import UPPER_BOUND, Table, cell, folds, left_out_notes
from cvm_monai.metrics import METRICS
from cvm_monai.metrics.tables import MEANINGS, TITLES

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
table { border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; }
td:first-child code { display: block; color: #777; font-size: .8em; }
.scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: #fff; }
thead th { border-bottom: 1.5px solid #222; font-weight: 600; }
tbody tr + tr td { border-top: 1px solid #e4e4e4; }
tr.apart td { border-top: 1.5px solid #222 !important; font-style: italic; }
.scroll { overflow-x: auto; }
img { height: auto; display: block; width: 1rem; }
.notes, .facts { color: #555; font-size: .9rem; }
.facts { padding-left: 1.2rem; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; font-size: .8rem; }
code { font-size: .9em; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")

REM_PER_INCH = 6
"""Figures are shown at this size, so that their text can be read; wide ones are scrolled."""


@dataclass(frozen=True)
class Picture:
    """A figure with its heading, the sentence under it, and the name of its own file, if any."""

    heading: str
    figure: Figure
    caption: str
    file: str = ""


def make_page(
    name: str, table: Table, pictures: Sequence[Picture], findings: Sequence[Finding], commands: Sequence[str]
) -> str:
    """The whole page: what was done, the table, the figures, the statistics, the commands to repeat each training."""
    parts = [_list(table.facts), f"<h2>{escape(table.heading)}</h2>", _table_1(table), _notes(_table_notes(table))]
    parts += [_picture(picture) for picture in pictures]
    parts += [_finding(finding) for finding in findings]
    text = escape("\n".join(commands))
    parts += ["<h2>Commands</h2>", f"<details><summary>Each training by hand</summary><pre>{text}</pre></details>"]
    return PAGE.substitute(title=escape(name), body="\n".join(parts))


def _table_1(table: Table) -> str:
    rows = []
    for arm in [*table.weak, *([table.upper] if table.upper else [])]:
        apart = arm == table.upper
        cells = [cell(table.means[arm][name]) for name in METRICS]
        if not apart:
            named = zip(METRICS, cells, strict=True)
            cells = [f"<b>{text}</b>" if arm == table.best(name) else text for name, text in named]
        name = f"{escape(title(arm))} <code>{escape(arm)}</code>" + (f"<br>{UPPER_BOUND}" if apart else "")
        line = "".join(f"<td>{text}</td>" for text in (name, *cells, str(folds(table, arm))))
        rows.append(f'<tr class="apart">{line}</tr>' if apart else f"<tr>{line}</tr>")
    return _frame(("Method", *(TITLES[name] for name in METRICS), "Folds"), rows)


def _table_notes(table: Table) -> list[str]:
    meanings = [f"{TITLES[name]}: {MEANINGS[name]}" for name in METRICS]
    return [*left_out_notes(table), *meanings]


def _finding(finding: Finding) -> str:
    rows = ["".join(f"<td{_class(text)}>{escape(text)}</td>" for text in line) for line in finding.cells]
    table = _frame(finding.columns, [f"<tr>{row}</tr>" for row in rows]) if rows else ""
    return f"<h2>{escape(finding.heading)}</h2>\n{table}\n{_notes(finding.notes)}"


def _class(text: str) -> str:
    return ' class="text"' if len(text) > 40 else ""


def _picture(picture: Picture) -> str:
    stream = BytesIO()
    picture.figure.savefig(stream, format="png", dpi=picture.figure.dpi, metadata={"Software": None})
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    style = f"min-width: {REM_PER_INCH * picture.figure.get_size_inches()[0]:.0f}rem"
    image = f'<img style="{style}" alt="{escape(picture.heading)}" src="data:image/png;base64,{data}">'
    return f'<h2>{escape(picture.heading)}</h2>\n<div class="scroll">{image}</div>\n{_notes([picture.caption])}'


def _frame(columns: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "\n".join(rows)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _notes(notes: Sequence[str]) -> str:
    return "\n".join(f'<p class="notes">{_code(escape(note))}</p>' for note in notes)


def _list(facts: Sequence[str]) -> str:
    return '<ul class="facts">\n' + "\n".join(f"<li>{_code(escape(fact))}</li>" for fact in facts) + "\n</ul>"


def _code(text: str) -> str:
    """Words between backticks as code."""
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
