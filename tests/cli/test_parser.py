"""Options of all commands: one listed spelling each, and the earlier spellings that go on working."""

import argparse
import re

import pytest

from cvm_monai.cli import main
from cvm_monai.cli.parser import CommandParser


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by the command's name."""
    (action,) = [one for one in main._parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(action.choices)


@pytest.mark.parametrize("name", sorted(commands()))
def test_no_help_lists_a_hyphen_in_an_option_or_an_earlier_name(name):
    parser = commands()[name]
    listed = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    assert "--help" in listed
    told = {*re.findall(r"(?<![\w-])--[\w-]+", parser.format_help())} - {"--app", "--studies", "--env-manager"}
    assert not {one for one in listed | told if "-" in one[2:]} - {"--no-crop"}  # QuPath's
    assert "--out" not in listed | told


@pytest.mark.parametrize(
    "words, name, value",
    [
        ("annotate DIR --no-browser", "no_browser", True),
        ("annotate DIR --api-only", "api_only", True),
        ("annotate DIR --output_dir OUT", "output", "OUT"),
        ("annotate DIR --output-dir=OUT", "output", "OUT"),
        ("camelyon16 SLIDES XML --out OUT", "output", "OUT"),
        ("doctor DIR --dry-run", "dry_run", True),
        ("export-bundle OUT.zip --output_dir RUN", "model", "RUN"),
        ("label-app --out=DIR", "output", "DIR"),
        ("predict SLIDE --model RUN --out OUT", "output", "OUT"),
        ("prepare DIR --out OUT", "output", "OUT"),
        ("register RUN --promote-if-better dice", "promote_if_better", "dice"),
        ("register RUN --promote-if=dice", "promote_if_better", "dice"),
        ("register RUN --tracking-uri=none", "tracking_uri", "none"),
        ("register RUN --tracking_uri none", "tracking_uri", "none"),
    ],
)
def test_earlier_spellings_go_on_working(words, name, value):
    arguments = main._arguments(words.split())
    assert getattr(arguments, name) == value


def test_knobs_and_unknown_options_are_left_as_they_were_typed(capsys):
    further = main._arguments(
        ["compare", "DIR", "--output", "OUT", "--max_epochs", "3", "--output_dir", "X", "--learning-rate", "1"]
    ).further
    assert further == ("--max_epochs", "3", "--output_dir", "X", "--learning-rate", "1")
    assert main.main(["export", "RUN", "a.onnx", "--out", "b.onnx"]) == 2
    assert capsys.readouterr().err.endswith("unrecognized arguments: --out b.onnx\n")


def test_what_follows_two_hyphens_is_no_option():
    parser = CommandParser()
    parser.add_argument("--output")
    parser.add_argument("files", nargs="*")
    assert parser.parse_args(["--out", "a", "--", "--out", "b-c"]) == argparse.Namespace(
        output="a", files=["--out", "b-c"]
    )
