"""Knobs of a training as they are typed: `--name value` and `--name=value`; imports nothing heavy."""

import ast
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cvm_monai.errors import CvmError
from cvm_monai.files import shorten, shown


def read_words(
    words: Sequence[str], config: Mapping[str, Any], *, own: Mapping[str, str], command: str = "comparison"
) -> dict[str, str]:
    """{name: value}, values as text; nothing that is wrong reaches a training.

    Args:
        words: of the command line.
        config: whose knobs are known.
        own: knobs that the command sets itself, and what to use instead.
        command: in a word, for the sentences.

    Raises:
        CvmError: a word that belongs to no knob, a knob without a value, one that `config` lacks, or one that the
            command sets itself.
    """
    knobs: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise CvmError(f"{shown(word)} belongs to no option: give DIR first, then --name value")
        name, equals, value = word[2:].partition("=")
        if name in own:
            raise CvmError(f"the {command} sets --{name} itself: {own[name]}")
        _check_known(name, config, command)
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise CvmError(f"--{shorten(name)} has no value: give --{shorten(name)} VALUE")
            value = rest.pop(0)
        knobs[name] = value
    return knobs


def setting_words(values: Mapping[str, Any]) -> list[str]:
    """{name: value} as the words that mean it: `value_of` gives each value back.

    Raises:
        CvmError: a value that no word can mean: an object, or an expression of the configuration.
    """
    for name, value in values.items():
        if isinstance(value, dict) or (isinstance(value, str) and value[:1] in ("$", "@", "%")):
            raise CvmError(f"{shorten(name)} must be a plain value, got {shorten(json.dumps(value))}")
    return [f"--{name}={_word(value)}" for name, value in values.items()]


def _word(value: Any) -> str:
    """The word of a value; MONAI drops a `None`, so that another default would stay."""
    if value is None:
        return "null"
    return str(value) if value_of(str(value)) == value else repr(value)


def value_of(text: str) -> Any:
    """What a knob's text means, as Python Fire reads it: a literal where it is one, else the text; `null` is None."""
    if text == "null":
        return None
    try:
        return json.loads(json.dumps(ast.literal_eval(text)))
    except (ValueError, SyntaxError, TypeError, MemoryError):
        return text


def _check_known(name: str, config: Mapping[str, Any], command: str) -> None:
    first = name.partition("#")[0]
    if first in config:
        return
    near = get_close_matches(first, [*map(str, config)], n=1)
    hint = f": did you mean --{near[0]}?" if near else ": bundle/docs/README.md lists them"
    raise CvmError(f"--{shorten(first)} is neither an option of the {command} nor a knob of the training{hint}")
