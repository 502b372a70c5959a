"""``cvm-monai label-app``."""

from pathlib import Path

from cvm_monai.cli.main import main


def test_the_folder_is_printed_and_nothing_else(capsys):
    assert main(["label-app"]) == 0
    out, err = capsys.readouterr()
    folder = Path(out.removesuffix("\n"))
    assert out.count("\n") == 1
    assert err == ""
    assert (folder / "main.py").is_file()


def test_a_folder_of_ones_own_starts_the_same_app(tmp_path, capsys):
    for _ in range(2):
        assert main(["label-app", "--output", str(tmp_path / "app")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str((tmp_path / "app").resolve())
    assert "CvmApp" in (tmp_path / "app" / "main.py").read_text()


def test_a_main_of_somebody_elses_stays(tmp_path, capsys):
    (tmp_path / "main.py").write_text("mine")
    assert main(["label-app", "--output", str(tmp_path)]) == 2
    assert "is another file" in capsys.readouterr().err
    assert (tmp_path / "main.py").read_text() == "mine"
