"""Whatever is done, undone, repeated and interrupted: the file on disk is what a simple model says."""

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvm_monai.annotate import journal as journal_module
from cvm_monai.annotate.journal import Journal, StaleError
from cvm_monai.annotations import Point, read_annotations
from cvm_monai.annotations.document import Classes
from cvm_monai.annotations.editing import add_point, move_point, relabel, remove
from cvm_monai.annotations.labels import label_table

CLASSES = Classes(label_table({}))
QUPATH = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "5f3f",
            "geometry": {"type": "MultiPoint", "coordinates": [[1.5, 2.5], [3.5, 4.5]]},
            "properties": {"objectType": "annotation", "name": "mine", "classification": {"name": "Target"}},
        },
        {
            "type": "Feature",
            "geometry": {"type": "LineString", "coordinates": [[0, 0], [9, 9]]},
            "properties": {"measurements": {"length": 12.7}},
        },
    ],
}


@dataclass
class Model:
    """Points by id, and what was there before each edit."""

    points: dict[int, tuple[float, float, int]] = field(default_factory=dict)
    undo: list[dict] = field(default_factory=list)
    redo: list[dict] = field(default_factory=list)
    used: int = 0

    def edit(self, points):
        self.undo.append(self.points)
        self.points, self.redo = points, []


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 99), st.integers(0, 1)),
        st.tuples(st.just("move"), st.integers(0, 99), st.integers(0, 99)),
        st.tuples(st.just("remove"), st.integers(0, 99), st.just(0)),
        st.tuples(st.just("relabel"), st.integers(0, 99), st.integers(0, 1)),
        st.tuples(st.sampled_from(["undo", "redo", "restart", "killed"]), st.just(0), st.just(0)),
    ),
    max_size=25,
)


def opened(folder):
    return Journal(folder / "points" / "a.geojson", folder / "side.json", CLASSES)


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("journal")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_any_edits_undone_repeated_and_restarted_give_the_points_of_a_simple_model(tmp_path_factory, actions):
    folder, model = tmp_path_factory.mktemp("journal"), Model()
    journal = opened(folder)
    for name, one, other in actions:
        before = journal.current()
        if name in ("restart", "killed"):
            journal = interrupted(journal, folder) if name == "killed" else opened(folder)
        elif name in ("undo", "redo"):
            act(journal, model, name, before.revision)
        else:
            points, change = planned(model, name, one, other)
            after = journal.edit(before.revision, change)
            if points != model.points:
                model.edit(points)
                assert after.revision == before.revision + 1
        found = {key: (point.x, point.y, point.label) for key, point in journal.current().document.points()}
        assert found == model.points
    if journal.path.exists():
        on_disk = sorted((point.x, point.y, point.label) for point in read_annotations(journal.path).points)
        assert on_disk == sorted(model.points.values())


def planned(model, name, one, other):
    """The points after an action, and the change of the document that should give them."""
    points = dict(model.points)
    if name == "add":
        model.used += 1
        points[model.used] = (one + 0.5, 7.5, other)
        return points, lambda document: add_point(document, Point(one + 0.5, 7.5, other), CLASSES)
    if not points:
        return points, lambda document: document
    key = list(points)[one % len(points)]
    x, y, label = points[key]
    if name == "move":
        points[key] = (other + 0.25, y, label)
        return points, lambda document: move_point(document, key, other + 0.25, y)
    if name == "remove":
        del points[key]
        return points, lambda document: remove(document, key, kind="point")
    points[key] = (x, y, other)
    return points, lambda document: relabel(document, key, other, CLASSES)


def act(journal, model, name, revision):
    """Undo or redo, in the journal and in the model."""
    source, target = (model.undo, model.redo) if name == "undo" else (model.redo, model.undo)
    if not source:
        with pytest.raises(ValueError, match=f"there is nothing to {name}"):
            getattr(journal, name)(revision)
        return
    target.append(model.points)
    model.points = source.pop()
    getattr(journal, name)(revision)


def interrupted(journal, folder):
    """A process that is killed between the two files of an edit, and the next one."""

    def killed(path, data):
        if path == journal.path:
            raise KeyboardInterrupt
        real(path, data)

    real = journal_module.write_bytes
    journal_module.write_bytes = killed
    try:
        saved = journal.current()
        if saved.undo:
            journal.undo(saved.revision)
        else:
            return opened(folder)
    except KeyboardInterrupt:
        pass
    finally:
        journal_module.write_bytes = real
    return opened(folder)


def test_an_unfinished_edit_is_as_if_it_was_never_asked_for(folder, monkeypatch):
    journal = opened(folder)
    journal.edit(0, lambda document: add_point(document, Point(1.5, 1.5, 1), CLASSES))

    def full(path, data):
        if path == journal.path:
            raise OSError(28, "No space left on device", str(path))
        real(path, data)

    real = journal_module.write_bytes
    monkeypatch.setattr(journal_module, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        journal.edit(1, lambda document: add_point(document, Point(2.5, 2.5, 1), CLASSES))
    monkeypatch.undo()
    for one in (journal, opened(folder)):
        saved = one.current()
        assert (saved.revision, len(saved.undo)) == (1, 1)
        assert [point.x for _, point in saved.document.points()] == [1.5]


def test_what_came_from_qupath_stays_as_it_was(folder):
    journal = opened(folder)
    journal.path.parent.mkdir()
    journal.path.write_text(json.dumps(QUPATH))
    saved = journal.current()
    ids = [key for key, _ in saved.document.points()]
    saved = journal.edit(0, lambda found: add_point(found, Point(8.5, 8.5, 1), CLASSES))
    saved = journal.edit(saved.revision, lambda found: relabel(found, ids[0], 0, CLASSES))
    first, line, added, changed = json.loads(journal.path.read_text())["features"]
    assert first == QUPATH["features"][0] | {"geometry": {"type": "MultiPoint", "coordinates": [[3.5, 4.5]]}}
    assert line == QUPATH["features"][1]
    assert added["geometry"]["coordinates"] == [[8.5, 8.5]]
    assert changed["properties"]["name"] == "mine"
    assert changed["properties"]["classification"]["name"] == "background"
    for _ in range(2):
        saved = journal.undo(saved.revision)
    assert json.loads(journal.path.read_text()) == QUPATH


def test_an_edit_of_an_older_revision_is_refused(folder):
    journal = opened(folder)
    journal.edit(0, lambda document: add_point(document, Point(1.5, 1.5, 1), CLASSES))
    with pytest.raises(StaleError, match="have changed meanwhile"):
        journal.edit(0, lambda document: add_point(document, Point(2.5, 2.5, 1), CLASSES))
    assert len(list(journal.current().document.points())) == 1


def test_a_file_that_another_program_wrote_is_a_new_revision_without_undo(folder):
    journal = opened(folder)
    journal.edit(0, lambda document: add_point(document, Point(1.5, 1.5, 1), CLASSES))
    assert not journal.changed_on_disk()
    journal.path.write_text(json.dumps(QUPATH))
    assert journal.changed_on_disk()
    for one in (journal, opened(folder)):
        saved = one.current()
        assert (saved.revision, saved.undo, len(list(saved.document.points()))) == (2, (), 2)
    with pytest.raises(StaleError, match="have changed meanwhile"):
        journal.edit(1, lambda document: add_point(document, Point(2.5, 2.5, 1), CLASSES))
    assert json.loads(journal.path.read_text()) == QUPATH


def test_a_file_that_was_only_touched_is_the_same_revision(folder):
    journal = opened(folder)
    saved = journal.edit(0, lambda document: add_point(document, Point(1.5, 1.5, 1), CLASSES))
    journal.path.write_text(journal.path.read_text())
    assert not journal.changed_on_disk()
    assert journal.current() == saved


def test_a_broken_file_is_left_alone_and_named(folder):
    journal = opened(folder)
    journal.edit(0, lambda document: add_point(document, Point(1.5, 1.5, 1), CLASSES))
    journal.path.write_text("{")
    with pytest.raises(ValueError, match=r"a\.geojson: not valid JSON"):
        journal.edit(1, lambda document: add_point(document, Point(2.5, 2.5, 1), CLASSES))
    assert journal.path.read_text() == "{"


def test_steps_made_with_another_class_map_are_not_undone(folder):
    journal = opened(folder)
    journal.edit(0, lambda document: add_point(document, Point(1.5, 1.5, 1), CLASSES))
    other = Classes(label_table({"Tumor": "target"}))
    saved = Journal(journal.path, journal.side, other).current()
    assert (saved.revision, saved.undo) == (2, ())


def test_a_damaged_file_of_steps_costs_the_steps_alone(folder):
    journal = opened(folder)
    journal.edit(0, lambda document: add_point(document, Point(1.5, 1.5, 1), CLASSES))
    journal.side.write_text('{"revision": 1, "keys": 5}')
    saved = opened(folder).current()
    assert (len(list(saved.document.points())), saved.undo) == (1, ())


def test_the_mark_of_a_checked_image_survives(folder):
    opened(folder).check(True)
    assert opened(folder).current().checked
    assert not (folder / "points").exists()
