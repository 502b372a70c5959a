"""The pseudo-label store: a reader sees one renewal or the next, whole, whatever happens to the writer."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from cvm_monai.data.store import PseudoLabelStore


def flat(value: float) -> np.ndarray:
    return np.full((2, 3), value, dtype=np.float32)


def test_an_empty_store_knows_nothing(tmp_path):
    store = PseudoLabelStore(tmp_path / "none")
    assert store.version == 0
    assert store.get("a") is None
    store.clear()
    assert not (tmp_path / "none").exists()


def test_what_is_published_is_read_back_as_float32(tmp_path):
    store = PseudoLabelStore(tmp_path)
    u = np.array([[0.0, 0.125], [0.5, 1.0]])
    assert store.publish({"a": u, "b": 1 - u}) == 1
    assert store.get("a").dtype == np.float32
    np.testing.assert_array_equal(store.get("a"), u)
    np.testing.assert_array_equal(store.get("b"), 1 - u)
    assert store.get("c") is None


def test_a_renewal_replaces_all_cases_of_the_one_before(tmp_path):
    store = PseudoLabelStore(tmp_path)
    store.publish({"a": flat(0), "b": flat(0)})
    assert store.publish({"b": flat(1)}) == store.version == 2
    assert store.get("a") is None
    assert store.get("b").tolist() == flat(1).tolist()


def test_a_store_that_was_open_before_sees_what_another_publishes(tmp_path):
    reader, writer = PseudoLabelStore(tmp_path), PseudoLabelStore(tmp_path)
    for value in (0.25, 0.5, 0.75):
        writer.publish({"a": flat(value)})
        assert reader.get("a").tolist() == flat(value).tolist()
    assert reader.version == 3


def test_only_the_last_two_renewals_stay_on_disk(tmp_path):
    store = PseudoLabelStore(tmp_path)
    for value in range(5):
        store.publish({"a": flat(value)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0004", "0005", "current.json"]


def test_more_than_four_digits_of_renewals_are_cleaned_up_too(tmp_path):
    store = PseudoLabelStore(tmp_path)
    (tmp_path / "current.json").write_text(json.dumps({"version": 9998, "files": {}}))
    for value in range(4):
        store.publish({"a": flat(value)})
    assert sorted(path.name for path in tmp_path.glob("[0-9]*")) == ["10001", "10002"]
    assert store.get("a").tolist() == flat(3).tolist()


def test_clear_forgets_everything_and_numbers_start_again(tmp_path):
    store = PseudoLabelStore(tmp_path)
    store.publish({"a": flat(1)})
    store.clear()
    assert (store.version, store.get("a")) == (0, None)
    assert [path.name for path in tmp_path.iterdir()] == ["current.json"]
    assert store.publish({"b": flat(1)}) == 1
    assert store.get("a") is None


@pytest.mark.parametrize("case_id", ["a/b", "../../up", "ä 漢 \U0001f52c", "x" * 3000, "", 'quote"\n', "CON", "."])
def test_any_case_id_is_kept_below_the_folder(tmp_path, case_id):
    store = PseudoLabelStore(tmp_path / "store")
    store.publish({case_id: flat(0.5), case_id + "2": flat(1)})
    assert store.get(case_id).tolist() == flat(0.5).tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert PseudoLabelStore(tmp_path / "store").get(case_id + "2").tolist() == flat(1).tolist()


def test_case_ids_that_differ_in_case_only_are_two(tmp_path):
    store = PseudoLabelStore(tmp_path)
    store.publish({"a": flat(0), "A": flat(1)})
    assert (store.get("a")[0, 0], store.get("A")[0, 0]) == (0, 1)


@pytest.mark.parametrize("broken", ["numpy.save", "os.replace"])
def test_a_renewal_that_fails_half_way_leaves_the_old_one_in_force(tmp_path, monkeypatch, broken):
    store = PseudoLabelStore(tmp_path)
    store.publish({"a": flat(0.25), "b": flat(0.25)})
    calls = []

    def full(*args, **kwargs):
        calls.append(args)
        if broken == "os.replace" or len(calls) == 2:
            raise OSError(28, "No space left on device")
        return save(*args, **kwargs)

    save = np.save
    with monkeypatch.context() as patch:
        patch.setattr(broken, full)
        with pytest.raises(OSError, match="No space left on device"):
            store.publish({"a": flat(0.75), "b": flat(0.75)})
    assert store.version == PseudoLabelStore(tmp_path).version == 1
    assert store.get("b").tolist() == flat(0.25).tolist()
    assert store.publish({"a": flat(1)}) == 2
    assert store.get("b") is None


def read_until(store: PseudoLabelStore, stop: threading.Event, seen: list, errors: list) -> None:
    try:
        while not stop.is_set():
            for case in ("a", "b"):
                label = store.get(case)
                if label is not None:
                    seen.append((case, label.min(), label.max(), label.shape))
    except Exception as error:
        errors.append(error)


def test_readers_never_see_a_mixture_or_an_error_while_renewals_are_published(tmp_path):
    writer, stop, seen, errors = PseudoLabelStore(tmp_path), threading.Event(), [], []
    big = np.zeros((200, 200), dtype=np.float32)
    threads = [
        threading.Thread(target=read_until, args=(PseudoLabelStore(tmp_path), stop, seen, errors)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    value = 0
    while not errors and (value < 50 or len(seen) < 100):
        value += 1
        writer.publish({"a": big + value, "b": big - value})
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(low == high and (case == "a") == (low > 0) and shape == (200, 200) for case, low, high, shape in seen)


def test_a_reader_that_held_an_old_pointer_takes_the_renewal_in_force(tmp_path, monkeypatch):
    """Between the pointer and the file two renewals pass: the file is gone, so the pointer is read again."""
    reader, writer = PseudoLabelStore(tmp_path), PseudoLabelStore(tmp_path)
    writer.publish({"a": flat(1)})
    load = np.load

    def late(path, **options):
        monkeypatch.setattr(np, "load", load)
        writer.publish({"a": flat(2)})
        writer.publish({"a": flat(3)})
        return load(path, **options)

    monkeypatch.setattr(np, "load", late)
    assert reader.get("a").tolist() == flat(3).tolist()


def test_a_file_that_is_lost_is_an_error_not_an_endless_wait(tmp_path):
    store = PseudoLabelStore(tmp_path)
    store.publish({"a": flat(1)})
    (tmp_path / "0001" / "0-000000.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"000000\.npy"):
        store.get("a")


def test_another_process_reads_the_renewals(tmp_path):
    store = PseudoLabelStore(tmp_path)
    store.publish({"ä/b": flat(0.5)})
    code = (
        "import sys; from cvm_monai.data.store import PseudoLabelStore as S; s = S(sys.argv[1])\n"
        "print(s.version, float(s.get('ä/b').max()), flush=True); input(); print(s.version, s.get('ä/b') is None)\n"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules"
    )
    command = [sys.executable, "-X", "utf8", "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1 0.5\n"
        store.publish({"c": flat(1)})
        out, _ = process.communicate("\n")
    assert out == "2 True\n"
    assert process.returncode == 0


def test_a_renewal_of_several_writers_is_in_force_as_a_whole_when_it_is_committed(tmp_path):
    first, second = PseudoLabelStore(tmp_path), PseudoLabelStore(tmp_path)
    first.publish({"a": flat(0), "gone": flat(0)})
    version = first.begin()
    files = first.write({"a": flat(1)}, version=version) | second.write({"b": flat(2)}, version=version, writer=1)
    assert second.get("b") is None
    assert second.get("a")[0, 0] == 0
    first.commit(version, files)
    second.wait_for(version, seconds=0)
    assert [second.get(case)[0, 0] for case in ("a", "b")] == [1, 2]
    assert second.get("gone") is None


def test_a_process_that_does_not_share_the_folder_says_so(tmp_path):
    here, elsewhere = PseudoLabelStore(tmp_path / "here"), PseudoLabelStore(tmp_path / "elsewhere")
    version = here.publish({"a": flat(1)})
    with pytest.raises(
        ValueError, match=r"does not see the pseudo-labels .* put --output_dir on a file system that all"
    ):
        elsewhere.wait_for(version, seconds=0.2)
