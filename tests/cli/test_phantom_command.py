import pytest

from cvm_monai.cli.main import main
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.folds import check_trainable, split

SMALL = ["--cases", "4", "--size", "64"]


def test_phantom_is_ready_for_training_and_repeatable(tmp_path, capsys):
    out = tmp_path / "data" / "phantom"
    assert main(["phantom", str(out), *SMALL]) == 0
    assert f"Wrote {out}/datalist.json\n  cases       4\n  patients    4\n" in capsys.readouterr().out
    datalist = read_datalist(out)
    for fold in datalist.folds:
        check_trainable(split(datalist, fold=fold))
    assert all(case.novel_mask == out / "novel" / f"{case.case_id}.png" for case in datalist.cases)
    before = contents(out)
    assert main(["phantom", str(out), *SMALL]) == 0
    assert contents(out) == before


def contents(folder):
    """Every file of the data set; its record, which says when it was made, is none of them."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != "run.json"}


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--cases", "3"], "3 cases cannot be spread over 4 folds: give at least --cases 4"),
        (["--cases", "4", "--size", "8"], "A phantom image of 8 px is too small"),
    ],
)
def test_phantom_that_cannot_be_made(tmp_path, capsys, options, sentence):
    assert main(["phantom", str(tmp_path / "out"), *options]) == 2
    assert capsys.readouterr().err.startswith(f"cvm-monai: error: {sentence}")
    assert not (tmp_path / "out").exists()
