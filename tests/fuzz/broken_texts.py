"""Annotation files, tables and records that mean something else than they should, or nothing."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from .broken_bytes import broken_bytes

RAW = (
    "null", "true", "NaN", "Infinity", "-Infinity", "1e999", "-1e308", "1e308", "9" * 400, "9" * 5000, "2147483648",
    "2147483647", "-2147483647.5", "0", "-1", "0.5", '""', '"text"', '"' + "x" * 5000 + '"', r'"\ud800"', r'"\u0000"',
    '"../../etc"', "[]", "{}", "[[]]", "[1]", "[null, null]", '{"name": null}', '["a", {"b": 1}]',
    "[" * 5000 + "]" * 5000,
    '{"a":' * 3000 + "1" + "}" * 3000, "[1e9, 1e9]", "1 2", "'x'", "undefined", '"\n"',
)  # fmt: skip
"""JSON values that nobody expects, among them some that are none."""

CELLS = (
    "", " ", "NaN", "inf", "-1", "1e999", "1e308", "2147483648", "0", "1,5", "x" * 200, '"', '""', "a;b", "\x00",
    "=1+1",
    "../x", "a/b", "..", "case_id", "9" * 5000, "\u202eevil", "ä", "true", "None", "\r", "\n", "x" * 140000, "٣",
)  # fmt: skip
"""Cells that a table may hold, among them some that break it."""


def broken_json(rng: np.random.Generator, content: Any) -> bytes:
    """JSON text of which one value is replaced, taken away or repeated, or whose bytes are damaged."""
    if rng.random() < 0.2:
        return broken_bytes(rng, json.dumps(content).encode())
    copy = json.loads(json.dumps(content))
    mark = "\x01here\x01"
    places = list(_places(copy))
    holder, key = places[rng.integers(len(places))]
    change = rng.integers(8)
    if change == 0:
        holder.pop(key)
    elif change == 1 and isinstance(holder, list):
        holder[key:key] = [holder[key]] * int(rng.integers(1, 300))
    elif change == 2 and isinstance(holder, dict):
        holder[str(rng.integers(1000))] = holder.pop(key)
    else:
        holder[key] = mark
    value = RAW[rng.integers(len(RAW))]
    text = value if rng.random() < 0.03 else json.dumps(copy).replace(json.dumps(mark), value)
    return text.encode("utf-8", errors="surrogatepass")


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    pairs = enumerate(node) if isinstance(node, list) else node.items() if isinstance(node, dict) else ()
    for key, value in pairs:
        yield node, key
        yield from _places(value)


def broken_table(rng: np.random.Generator, rows: list[list[str]]) -> bytes:
    """CSV of which a cell is replaced, a row or a column is gone or stands twice, or whose bytes are damaged."""
    rows = [list(row) for row in rows]
    change, row = rng.integers(8), int(rng.integers(len(rows)))
    column = int(rng.integers(len(rows[row])))
    if change == 0:
        del rows[row]
    elif change == 1:
        rows.insert(row, list(rows[row]))
    elif change == 2:
        rows = [[cell for number, cell in enumerate(line) if number != column] for line in rows]
    elif change == 3:
        rows[row].append(CELLS[rng.integers(len(CELLS))])
    else:
        rows[row][column] = CELLS[rng.integers(len(CELLS))]
    stream = io.StringIO()
    csv.writer(stream, delimiter=",;\t|"[min(3, int(rng.exponential(0.5)))]).writerows(rows)
    data = stream.getvalue().encode("utf-8")
    return broken_bytes(rng, data) if rng.random() < 0.25 else data


def geojson(rng: np.random.Generator) -> Any:
    """A good file of QuPath's: points of two classes, a polygon with a hole, an exclusion."""
    ring = [[2, 2], [30, 3], [28, 30], [4, 25], [2, 2]]
    hole = [[10, 10], [14, 10], [14, 14], [10, 10]]
    shapes = [
        ("Point", [5.5, 6.5], "target"),
        ("MultiPoint", [[20, 21], [33.3, 8]], "background"),
        ("Polygon", [ring, hole], "target"),
        ("MultiPolygon", [[hole]], "exclusion"),
    ]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": kind, "coordinates": coordinates},
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}},
        }
        for kind, coordinates, name in shapes
    ]
    return features if rng.random() < 0.3 else {"type": "FeatureCollection", "features": features}


def archive_json(rng: np.random.Generator) -> Any:
    """A good document of the Digital Slide Archive."""
    square = [[4, 4, 0], [20, 4, 0], [20, 20, 0]]
    elements = [
        {"type": "point", "center": [5, 5, 0], "group": "target", "lineColor": "rgb(1,2,3)"},
        {"type": "polyline", "closed": True, "points": square, "holes": [], "group": "background"},
        {
            "type": "rectangle",
            "center": [20, 20, 0],
            "width": 9,
            "height": 8,
            "rotation": 0.3,
            "label": {"value": "target"},
        },
        {"type": "ellipse", "center": [20, 20, 0], "width": 9, "height": 8, "rotation": 0, "group": "target"},
        {"type": "circle", "center": [9, 20, 0], "radius": 3, "group": "target", "fillColor": "#ff0000"},
    ]
    document = {"annotation": {"name": "a", "elements": elements}}
    return [document, document] if rng.random() < 0.3 else document


def asap(rng: np.random.Generator) -> bytes:
    """A good file of ASAP's."""
    shapes = [
        ("Dot", "target", [(5, 6)]),
        ("Polygon", "target", [(2, 2), (30, 3), (28, 30)]),
        ("Rectangle", "background", [(20, 20), (30, 20), (30, 30), (20, 30)]),
        ("Spline", "target", [(3, 3), (9, 3), (9, 9)]),
    ]
    parts = []
    for kind, group, corners in shapes:
        inner = "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}" />' for n, (x, y) in enumerate(corners))
        parts.append(
            f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58"><Coordinates>{inner}'
            "</Coordinates></Annotation>\n"
        )
    groups = '<Group Name="target" PartOfGroup="None" Color="#64FE2E"><Attributes /></Group>'
    return (
        '<?xml version="1.0"?>\n<ASAP_Annotations>\n<Annotations>\n'
        f"{''.join(parts)}</Annotations>\n<AnnotationGroups>{groups}</AnnotationGroups>\n</ASAP_Annotations>\n"
    ).encode()


def broken_asap(rng: np.random.Generator) -> bytes:
    """ASAP's XML with an attribute replaced, entities that expand, files from elsewhere, or damaged bytes."""
    data, change = asap(rng), rng.integers(6)
    if change == 0:
        return broken_bytes(rng, data)
    if change == 1:
        return XML_BOMBS[rng.integers(len(XML_BOMBS))].replace(b"@", data.partition(b"\n")[2])
    parts = data.split(b'"')
    place = 2 * int(rng.integers(1, len(parts) // 2)) + 1  # within quotes
    if change == 2:
        parts[place - 1] = parts[place - 1].rpartition(b" ")[0] + b" gone="
    else:
        parts[place] = XML_VALUES[rng.integers(len(XML_VALUES))]
    return b'"'.join(parts)


XML_VALUES = (b"NaN", b"inf", b"-1e308", b"1e999", b"2147483648", b"", b" ", b"1,5", b"Polygon", b"None", b"x" * 9999,
              b"&amp;", b"&#0;", b"&none;", b"<", "ä".encode(), b"\xff", b"9" * 5000, b"-0", b"target",
              b"_0")  # fmt: skip

_LAUGHS = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12))
XML_BOMBS = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a0 "lol">' + _LAUGHS + b"]><ASAP_Annotations>&a11;</ASAP_Annotations>",
    b'<!DOCTYPE a [<!ENTITY q "' + b"x" * 50000 + b'">]><ASAP_Annotations>' + b"&q;" * 5000 + b"</ASAP_Annotations>",
    b'<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><ASAP_Annotations>&f;</ASAP_Annotations>',
    b'<!DOCTYPE a SYSTEM "http://192.0.2.1/a.dtd">@',
    b"<a>" * 20000 + b"</a>" * 20000,
    b"<ASAP_Annotations>" + b"<Annotation>" * 20000 + b"</Annotation>" * 20000 + b"</ASAP_Annotations>",
    b'<?xml version="1.0" encoding="UTF-7"?>@',
    b'<?xml version="1.0" encoding="utf-16"?>@',
    b'<?xml version="1.0" encoding="nothing"?>@',
)
"""XML that expands, reaches out, nests or lies about its encoding; @ stands for good annotations."""
