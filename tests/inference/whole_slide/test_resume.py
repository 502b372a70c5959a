"""What a kill leaves is gone on from, to the bit; two processes never work on one slide."""

import json
import os
import signal

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from cvm_monai.files import lock_folder
from cvm_monai.inference.whole_slide import ResultOptions, SlideModel, SlideOptions, predict_slides
from cvm_monai.inference.whole_slide.map_file import MapFile
from cvm_monai.networks import build_network

from .conftest import pixels, write_slide

pytestmark = pytest.mark.usefixtures("no_picture")
OPTIONS = SlideOptions(window=128, overlap=0.5, tissue="none", results=ResultOptions(min_area_um2=100.0))
ROWS, COLUMNS = 5, 4  # tiles of a slide of 380 x 300 px: starts 0, 64, ...


class Counting(nn.Module):
    """A network that counts its calls, and kills its process at one of them."""

    def __init__(self, kill_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = build_network("unet", channels=[4, 8, 8, 8, 8], normalisation="batch")
        self.calls, self.kill_at = -2, kill_at  # the first of them asks for the stride, tile 0 is call 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.network(x)


def model(kill_at: int | None = None) -> SlideModel:
    return SlideModel(Counting(kill_at).eval(), mpp=0.5)


@pytest.fixture
def slide(tmp_path):
    return write_slide(tmp_path / "a.tif", np.kron(pixels(95, 75), np.ones((4, 4, 1), np.uint8)))


def predict_killed(slide, out, kill_at):
    """In a process of its own, which is killed."""
    child = os.fork()
    if child == 0:
        predict_slides(model(kill_at), [slide], out, options=OPTIONS, bar=False)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def probability(out):
    return tifffile.imread(out / "a" / "probability.ome.tif")


def record(out):
    return json.loads((out / "a" / "run.json").read_text())


def test_a_killed_process_loses_the_row_in_hand_and_the_result_is_the_same_to_the_bit(slide, tmp_path):
    whole = model()
    predict_slides(whole, [slide], tmp_path / "whole", options=OPTIONS, bar=False)
    assert whole.network.calls == ROWS * COLUMNS - 1
    predict_killed(slide, tmp_path / "out", kill_at=2)  # in the first row
    predict_killed(slide, tmp_path / "out", kill_at=3 * COLUMNS + 1)  # in the fourth
    rest = model()
    report = predict_slides(rest, [slide], tmp_path / "out", options=OPTIONS, bar=False)
    assert report.finished == ["a"]
    assert rest.network.calls == 2 * COLUMNS - 1  # the row in hand and the last one
    np.testing.assert_array_equal(probability(tmp_path / "out"), probability(tmp_path / "whole"))
    attempts = record(tmp_path / "out")["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["KILLED", "KILLED", "FINISHED"]
    assert [attempt["rows_already_done"] for attempt in attempts] == [0, 0, 3]
    assert not (tmp_path / "out" / "a" / ".partial").exists()


@pytest.mark.parametrize("file", ["probability.u8", "carry"])
def test_a_damaged_part_is_done_again(slide, tmp_path, file):
    predict_slides(model(), [slide], tmp_path / "whole", options=OPTIONS, bar=False)
    predict_killed(slide, tmp_path / "out", kill_at=2 * COLUMNS)
    partial = tmp_path / "out" / "a" / ".partial"
    if file == "carry":
        file = json.loads((partial / "progress.json").read_text())["carry"]["file"]
    damaged = bytearray((partial / file).read_bytes())
    damaged[len(damaged) // 8] ^= 1
    (partial / file).write_bytes(damaged)
    again = model()
    predict_slides(again, [slide], tmp_path / "out", options=OPTIONS, bar=False)
    assert again.network.calls == ROWS * COLUMNS - 1
    np.testing.assert_array_equal(probability(tmp_path / "out"), probability(tmp_path / "whole"))


def test_a_finished_slide_is_passed_over(slide, tmp_path):
    predict_slides(model(), [slide], tmp_path / "out", options=OPTIONS, bar=False)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "a").iterdir()}
    report = predict_slides(model(), [slide], tmp_path / "out", options=OPTIONS, bar=False)
    assert (report.skipped, report.finished, report.exit_code) == (["a"], [], 0)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "a").iterdir()} == before


def test_a_part_or_a_result_of_another_model_or_setting_is_refused_by_name_and_overwritten_on_request(slide, tmp_path):
    predict_killed(slide, tmp_path / "out", kill_at=2 * COLUMNS)
    changed = SlideOptions(window=128, overlap=0.25, tissue="none")
    with pytest.raises(ValueError, match=r"other settings: overlap was 0.5 and is 0.25; .* --overwrite"):
        predict_slides(model(), [slide], tmp_path / "out", options=changed, bar=False)
    other = model()
    with torch.no_grad():
        next(other.network.parameters()).add_(0.1)
    with pytest.raises(ValueError, match="other settings: model was"):
        predict_slides(other, [slide], tmp_path / "out", options=OPTIONS, bar=False)
    assert len(json.loads((tmp_path / "out/a/.partial/progress.json").read_text())["bands"]) == 2  # nothing is lost
    overwrite = SlideOptions(**{**vars(OPTIONS), "overwrite": True})
    assert predict_slides(other, [slide], tmp_path / "out", options=overwrite, bar=False).finished == ["a"]
    with pytest.raises(ValueError, match=r"min_area_um2 was 100\.0 and is 50\.0"):
        predict_slides(
            other, [slide], tmp_path / "out", options=SlideOptions(window=128, overlap=0.5, tissue="none"), bar=False
        )


def test_a_slide_in_the_hands_of_another_process_is_passed_over(slide, tmp_path):
    lines = []
    with lock_folder(tmp_path / "out" / "a") as holder:
        assert holder is None
        report = predict_slides(model(), [slide], tmp_path / "out", options=OPTIONS, say=lines.append, bar=False)
    assert (report.busy, report.exit_code) == (["a"], 1)
    assert any(f"skipped, process {os.getpid()} on" in line for line in lines)
    assert predict_slides(model(), [slide], tmp_path / "out", options=OPTIONS, bar=False).finished == ["a"]


def test_half_a_result_that_a_kill_left_is_removed_when_the_slide_is_taken_up_again(slide, tmp_path):
    half = tmp_path / "out" / "a" / ".probability.ome.tif.part-0123abcd"
    half.mkdir(parents=True)
    (half / "probability.ome.tif").write_bytes(b"half")
    assert predict_slides(model(), [slide], tmp_path / "out", options=OPTIONS, bar=False).finished == ["a"]
    assert [path.name for path in half.parent.glob(".*")] == [".lock"]


def test_an_interrupted_write_of_a_band_does_not_count(tmp_path):
    store = MapFile(tmp_path / "map", (4, 1, 3), {"a": 1})
    store.write(0, np.full((2, 1, 3), 7, np.uint8))
    store.write_carry(1, np.ones((2, 2, 2), np.float32))  # columns 1 and 2
    store.finish_band(2)
    store.write(0, np.full((2, 1, 2), 9, np.uint8))  # the next band and what it shares, without its progress
    store.write_carry(0, np.full((3, 2, 2), 9, np.float32))
    again = MapFile(tmp_path / "map", (4, 1, 3), {"a": 1})
    assert again.rows == 2
    np.testing.assert_array_equal(again.carried(0, 3), np.float32([0, 1, 1])[:, None, None] * np.ones((3, 2, 2)))
    again.finish_band(2)
    np.testing.assert_array_equal(again.read(0, 2), np.full((2, 1, 3), 7))
