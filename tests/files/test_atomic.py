"""Replacement is all or nothing: under errors, kills, full disks and several writers."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread

import pytest

from cvm_monai.files import (
    is_leftover,
    remove_all_leftovers,
    remove_folder,
    remove_leftovers,
    replacing,
    replacing_entries,
    write_bytes,
    write_text,
)
from cvm_monai.files.atomic import LONGEST

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from cvm_monai.files import {what}
with {call}:
    {write}
    os.kill(os.getpid(), signal.SIGKILL)
"""


def die_writing(what, call, write):
    """A process that is killed in the middle of a replacement."""
    script = WRITE_AND_DIE.format(what=what, call=call, write=write)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == -signal.SIGKILL


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_the_old_one_until_the_block_ends_and_nothing_else_is_left(tmp_path, durable):
    path = tmp_path / "new" / "a.ome.tif"
    with replacing(path, durable=durable) as aside:
        aside.write_text("first")
        assert (path.exists(), aside.name) == (False, "a.ome.tif")
    with replacing(path, durable=durable) as aside:
        aside.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second"
    assert names(path.parent) == ["a.ome.tif"]


@pytest.mark.parametrize("error", [ValueError("the network failed"), KeyboardInterrupt("stop"), SystemExit("2")])
def test_an_error_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "a.csv"
    path.write_text("old")

    def fail():
        with replacing(path) as aside:
            aside.write_text("half")
            (aside.parent / "a.data").write_text("what a writer puts beside its file")
            raise error

    with pytest.raises(type(error), match=str(error)):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.csv"]


def test_a_block_that_writes_nothing_is_an_error_of_the_target(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/a\.csv'$"),
        replacing(tmp_path / "a.csv"),
    ):
        pass
    assert names(tmp_path) == []


def test_errors_name_the_target_and_those_of_other_files_are_left_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    with pytest.raises(OSError, match=r"Is a directory: '.*/folder'$"):
        write_text(tmp_path / "folder", "text")
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: 'nowhere'"), replacing(tmp_path / "a"):
        Path("nowhere").read_bytes()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"(Not a directory|File exists): '.*/file'$"):
        write_text(tmp_path / "file" / "a", "text")
    assert names(tmp_path) == ["file", "folder"]
    assert names(tmp_path / "folder") == ["kept"]


def test_a_full_disk_leaves_the_old_bytes_and_names_the_file(tmp_path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    script = (
        "import resource, signal; from pathlib import Path; from cvm_monai.files import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"try: write_bytes(Path({str(path)!r}), bytes(2000))\n"
        "except OSError as error: print(error.errno, error.filename)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True).stdout
    assert said == f"{errno.EFBIG} {path}\n"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_durable_bytes_are_flushed_before_they_are_renamed(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, real=real, name=name: (done.append(name), real(*given))[1])
    write_bytes(tmp_path / "a", b"1")
    write_text(tmp_path / "b", "1")
    assert done == ["fsync", "replace", "replace"]


def test_a_new_file_has_the_usual_permissions_and_a_link_is_replaced(tmp_path):
    (tmp_path / "elsewhere").write_text("of somebody else")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "link", "new")
    finally:
        os.umask(before)
    assert not (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "link").stat().st_mode) == 0o640
    assert (tmp_path / "elsewhere").read_text() == "of somebody else"


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert names(tmp_path) == [name]


def test_writers_of_one_file_leave_one_whole_file(tmp_path):
    start, path = Barrier(8), tmp_path / "a"

    def write(number):
        start.wait()
        for _ in range(20):
            write_text(path, f"{number}" * 10_000)
            assert len(set(path.read_text())) == 1

    threads = [Thread(target=write, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(path.read_text()) == 10_000
    assert names(tmp_path) == ["a"]


def test_what_a_kill_leaves_is_hidden_and_removed_for_its_file_alone(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    for target in (path, tmp_path / "run.json.run.json", tmp_path / "other.json"):
        die_writing("replacing", f"replacing(Path({str(target)!r})) as aside", "aside.write_text('half')")
    die_writing("replacing", f"replacing(Path({str(path)!r})) as aside", "pass")  # before it wrote anything
    assert path.read_text() == "old"
    assert list(tmp_path.glob("*.json")) == [path]
    assert [is_leftover(entry) for entry in sorted(tmp_path.iterdir())] == [True] * 4 + [False]
    remove_leftovers(path)
    assert [name.rpartition(".")[0] for name in names(tmp_path)] == [".other.json", ".run.json.run.json", "run"]
    remove_all_leftovers(tmp_path)
    assert names(tmp_path) == ["run.json"]


def test_what_earlier_versions_left_is_removed_and_similar_names_are_kept(tmp_path):
    former = (".run.json.4711", ".run.json.1")
    kept = (".run.json.bak", ".run.json", ".run.json.12a", "run.json.12", ".other.json.12", ".lock")
    for name in (*former, *kept):
        (tmp_path / name).touch()
    (tmp_path / ".run.removed").mkdir()
    remove_leftovers(tmp_path / "run.json")
    remove_leftovers(tmp_path / "run")
    remove_all_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_leftovers_of_a_long_name_are_found(tmp_path):
    path = tmp_path / ("n" * (LONGEST + 100))
    die_writing("replacing", f"replacing(Path({str(path)!r})) as aside", "aside.write_text('half')")
    assert len(names(tmp_path)) == 1
    remove_leftovers(path)
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "nowhere" / "a")
    remove_all_leftovers(tmp_path / "nowhere")
    assert names(tmp_path) == []


def make(folder, text, *, extra=True):
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_text(text)
    (folder / "stamp").write_text(text)
    if extra:
        (folder / "images" / "b.png").write_text(text)


def test_entries_are_replaced_whole_and_others_are_kept(tmp_path):
    (tmp_path / "points").mkdir()
    make(tmp_path, "old")
    with replacing_entries(tmp_path, ["images", "stamp"]) as new:
        make(new, "new", extra=False)
        assert (tmp_path / "images" / "a.png").read_text() == "old"
    assert names(tmp_path) == ["images", "points", "stamp"]
    assert names(tmp_path / "images") == ["a.png"]
    assert (tmp_path / "stamp").read_text() == "new"


def test_entries_come_back_where_one_is_missing_or_the_block_fails(tmp_path):
    make(tmp_path, "old")
    with pytest.raises(FileNotFoundError, match="stamp"), replacing_entries(tmp_path, ["images", "stamp"]) as new:
        (new / "images").mkdir()
    with pytest.raises(FileNotFoundError, match="missing"), replacing_entries(tmp_path, ["images", "stamp"]) as new:
        (new / "missing" / "a.png").touch()
    assert names(tmp_path) == ["images", "stamp"]
    assert names(tmp_path / "images") == ["a.png", "b.png"]
    assert {file.read_text() for file in tmp_path.rglob("*") if file.is_file()} == {"old"}


def test_entries_come_back_where_the_moving_is_interrupted(tmp_path, monkeypatch):
    make(tmp_path, "old")
    rename = Path.rename

    def interrupted(self, target):
        if self.parent.name == "new" and self.name == "stamp":
            raise KeyboardInterrupt("stop")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stop"), replacing_entries(tmp_path, ["images", "stamp"]) as new:
        make(new, "new")
    assert names(tmp_path) == ["images", "stamp"]
    assert {file.read_text() for file in tmp_path.rglob("*") if file.is_file()} == {"old"}


def test_a_folder_is_removed_in_one_step(tmp_path):
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "model.pt").touch()
    remove_folder(folder)
    remove_folder(folder)
    assert names(tmp_path) == []
