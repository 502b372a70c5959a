"""Configurations of a bundle that mean something else than they should, or nothing."""

import json
from typing import Any

import numpy as np
import yaml

from .broken_bytes import broken_bytes
from .broken_texts import RAW, broken_json

EXPRESSIONS = (
    "$1/0", "$nothing", "$[", "$1 if", "$", "$$", "$import nothing_at_all", "$int('x')", "$open('nothing')", "$raise",
    "$exit(3)", "$__import__('sys').exit('bye')", "$(lambda f: f(f))(lambda f: f(f))", "$()[0]", "${}['a']",
    "$b'\\xff'", "$'\\ud800'", "$object()", "$lambda: 0", "$float('nan')", "$10**400", "$None", "$(yield)",
    "$@dataset_dir[99999]", "$@nothing", "@nothing", "@", "@#", "@knobs#nothing", "@knobs::seed::x", "@seed::1",
    "%nothing.json::a", "%", "%::nothing", "%#", "@knobs", "@train", "@run", "@initialize", "$@knobs['nothing']",
    "$[].pop()", "$[0] * -1", "$'a' * 10000", "$next(iter(()))", "$__import__('nothing')", "$torch.device('nothing')",
    "$torch.zeros(3, 4) @ torch.zeros(3)", "$(_ for _ in ()).throw(KeyError('a'))", "$(_ for _ in ()).throw(OSError())",
)  # fmt: skip
"""Expressions that raise, leave, mean nothing or refer to what there is not. None of them does any harm."""

PARTS: tuple[Any, ...] = (
    {"_target_": "nothing.at.all"}, {"_target_": "cvm_monai.nothing"}, {"_target_": ""}, {"_target_": 5},
    {"_target_": None}, {"_target_": "builtins.exit"}, {"_target_": "builtins.int", "nothing": 1},
    {"_target_": "builtins.int", "_mode_": "nothing"}, {"_target_": "builtins.int", "_disabled_": "nothing"},
    {"_target_": "builtins.int", "_requires_": "@nothing"}, {"_target_": "torch.nn.Linear"},
    {"_target_": "torch.nn.Linear", "in_features": -1, "out_features": 2}, {"_target_": ["a"]},
)  # fmt: skip
"""Components that there are not, or that cannot be made."""

KEYS = ("", "#", "::", "a#b", "fold#0", "+fold", "~fold", "1", "_meta_", "_target_", "x" * 5000, "ä", "\ud800", "$fold",
        "@fold", "initialize", "knobs#fold", "train::dataset::data")  # fmt: skip
"""Names that a section may have, among them some that MONAI gives a meaning to."""


def broken_config(rng: np.random.Generator, content: dict[str, Any]) -> tuple[str, bytes]:
    """Suffix and text of a configuration with one mistake."""
    copy = json.loads(json.dumps(content))
    kind = int(rng.integers(12))
    if kind <= 2:
        return ".json", broken_json(rng, copy)
    if kind == 3:
        return ".json", broken_bytes(rng, json.dumps(copy).encode())
    if kind == 4:
        return _yaml(rng, copy)
    if kind == 5:
        return ".json", twice(rng, copy)
    if kind == 6:
        del copy[_section(rng, copy)]
    elif kind == 7:
        copy[KEYS[rng.integers(len(KEYS))]] = [1, "@fold", {}, None, "$1/0"][rng.integers(5)]
    elif kind == 8:
        first, second = _section(rng, copy), _section(rng, copy)
        copy[first], copy[second] = f"@{second}", f"$@{first}"
    elif kind == 9:
        copy[_section(rng, copy)] = PARTS[rng.integers(len(PARTS))]
    else:
        copy[_section(rng, copy)] = EXPRESSIONS[rng.integers(len(EXPRESSIONS))]
    return ".json", json.dumps(copy).encode("utf-8", errors="surrogatepass")


def wrong_knob(rng: np.random.Generator, content: dict[str, Any], names: list[str]) -> tuple[str, bytes]:
    """A configuration of which one of these top entries has another value than any that it may have; its name first."""
    name, mark = names[rng.integers(len(names))], "\x01here\x01"
    value = RAW[rng.integers(len(RAW))]
    if rng.random() < 0.2:
        value = json.dumps(EXPRESSIONS[rng.integers(len(EXPRESSIONS))])
    return name, json.dumps(content | {name: mark}).replace(json.dumps(mark), value).encode()


def twice(rng: np.random.Generator, content: dict[str, Any]) -> bytes:
    """A section that stands there two times, which JSON allows and nobody means."""
    name = _section(rng, content)
    return ("{" + json.dumps(name) + ": 3, " + json.dumps(content)[1:]).encode()


def _section(rng: np.random.Generator, content: dict[str, Any]) -> str:
    names = list(content)
    return names[rng.integers(len(names))]


def _yaml(rng: np.random.Generator, content: dict[str, Any]) -> tuple[str, bytes]:
    """The same as YAML, good, damaged, or with what YAML alone knows."""
    suffix = (".yaml", ".yml")[rng.integers(2)]
    text = yaml.safe_dump(content)
    more = YAML[rng.integers(len(YAML))]
    if rng.random() < 0.3:
        return suffix, broken_bytes(rng, text.encode())
    return suffix, (text + more).encode()


YAML = ("", "fold: 1\nfold: 2\n", "fold: !!python/object/apply:os.getcwd []\n", "fold: *nothing\n", "fold: &a [*a]\n",
        "\tfold: 1\n", "- 1\n", "--- \nfold: 1\n", "fold: !nothing 1\n", "? [1, 2]\n: 3\n", "1: 2\n", "null: 1\n",
        "fold: 2026-01-31\n", "fold: .nan\n", "<<: 5\n", "%YAML 9.9\n")  # fmt: skip
"""What may be added to a good YAML file: repeated keys, Python objects, circles, keys that are no text, dates."""
