"""The parser of every command: it lists one spelling of each option and accepts the earlier ones.

Listed names have underscores, as knobs have, and what a command writes is `--output`. `--no-browser` is read as
`--no_browser` and `--out` as `--output`, in every command that has the listed option.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

RENAMED: Mapping[str, str] = {"out": "output"}
"""Listed names by earlier ones, in all commands."""


class CommandParser(argparse.ArgumentParser):
    """Argument parser that also accepts the hyphenated and the earlier names of its options.

    Args:
        renamed: listed names by further earlier ones, of this command alone.
    """

    def __init__(self, *args: Any, renamed: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.renamed = {**RENAMED, **(renamed or {})}

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse the words, each option by its listed name."""
        words = sys.argv[1:] if args is None else list(args)
        end = words.index("--") if "--" in words else len(words)
        return super().parse_known_args([*map(self._listed, words[:end]), *words[end:]], namespace)

    def _listed(self, word: str) -> str:
        """Return an option's word with the listed name; any other word unchanged."""
        name, equals, value = word.partition("=")
        if not name.startswith("--"):
            return word
        given = name[2:].replace("-", "_")
        option = f"--{self.renamed.get(given, given)}"
        known = self._option_string_actions
        begun = self.allow_abbrev and any(one.startswith(option) for one in known)
        return f"{option}{equals}{value}" if option in known or begun else word
