"""Large files, one object at a time."""

import gzip
import json
from collections import Counter

import pytest

from cvm_monai.annotations import Point, iter_annotations, read_annotations
from cvm_monai.files import iter_json, streams

FEATURE = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 0]}, "properties": {"label": "target"}}


def many(count):
    features = []
    for number in range(count):
        geometry = {"type": "Point", "coordinates": [number + 0.25, 12345678]}
        properties = {"label": "target", "name": 'quote " and [brace } \\ é 漢 \U0001f600' * (number % 3)}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return features


@pytest.mark.parametrize("chunk", [1, 2, 7, 100, 1000])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_size_of_a_chunk_does_not_matter(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(streams, "CHUNK", chunk)
    data = {"crs": {"a": [1, 2.5, None, True]}, "features": many(30), "type": "FeatureCollection", "n": -12.5e3}
    for number, ensure_ascii in enumerate((True, False)):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(data, indent=indent, ensure_ascii=ensure_ascii), encoding="utf-8")
        assert [item.x for item in iter_annotations(path)] == [number + 0.25 for number in range(30)]


@pytest.mark.parametrize("value", [12345, -1.5e-3, "text", None, True, [], {}, float("inf"), [[1], {"a": [2]}]])
def test_lone_values_are_read_whole(tmp_path, monkeypatch, value):
    monkeypatch.setattr(streams, "CHUNK", 1)
    path = tmp_path / "a.json"
    path.write_text(f" {json.dumps(value)} ")
    assert list(iter_json(path)) == (value if isinstance(value, list) else [value])


def test_objects_come_before_the_file_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.geojson.gz"
    text = json.dumps({"type": "FeatureCollection", "features": many(20_000)})
    path.write_bytes(gzip.compress(text.encode())[:-100])
    items = iter_annotations(path)
    assert next(items) == Point(0.25, 12345678, 1)
    with pytest.raises(ValueError, match=r"a.geojson.gz is not a complete gzip file"):
        list(items)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ('{"features": [\n' + "1,\n" * 500 + "x]}", "a.json, line 502: not valid JSON"),
        ('{"features": [],\n"a": tru}', "a.json, line 2: not valid JSON"),
        ('{"features": [] "a": 1}', r"not valid JSON \(Expecting ',' or '}', column 17\)"),
        ('{"features": [', "a.json, line 1: not valid JSON"),
        ('{"a', "a.json, line 1: not valid JSON"),
        ("{3: 4}", r"not valid JSON \(Expecting '\"'"),
        ("[1 2]", "not valid JSON"),
    ],
)
def test_mistakes_are_found_at_their_line(tmp_path, monkeypatch, text, sentence):
    monkeypatch.setattr(streams, "CHUNK", 8)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        list(iter_json(tmp_path / "a.json"))


def test_nothing_is_given_out_after_an_unknown_label_and_all_are_counted(tmp_path):
    labels = ["target", "A", "target", "B", "A"]
    features = [{**FEATURE, "properties": {"label": label}} for label in labels]
    (tmp_path / "a.json").write_text(json.dumps(features))
    items = iter_annotations(tmp_path / "a.json")
    assert next(items).label == 1
    with pytest.raises(ValueError, match=r"a.json: unknown labels 'A' \(2\), 'B' \(1\); allowed"):
        next(items)


def test_the_iterator_gives_what_reading_gives(shared_dir):
    path = shared_dir / "formats" / "qupath" / "geojson_example.json"
    counts = Counter()
    items = tuple(iter_annotations(path, classes={"Tumor": 1, "Invborder": "skip"}, counts=counts))
    found = read_annotations(path, classes={"Tumor": 1, "Invborder": "skip"})
    assert items == found.regions
    assert counts == found.counts == {"skip": 1}
