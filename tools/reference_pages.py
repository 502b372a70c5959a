"""Write the generated pages of the reference: knobs from `knobs.py`, commands from their help, the API from `__all__`.

    python tools/reference_pages.py docs/reference

`docs/conf.py` calls it before each build; the pages are not kept in git.
"""

import argparse
import importlib
import inspect
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from knob_tables import OTHERS, default_words, range_words

import cvm_monai
from cvm_monai.cli import main as command_line
from cvm_monai.files import write_text
from cvm_monai.knob_kinds import Knob
from cvm_monai.knobs import GROUPS

ROOMS = {
    "annotations": "Points and regions",
    "slides": "Images and slides",
    "variational": "Contrast maps and solvers",
    "networks": "Networks",
    "losses": "Losses",
    "metrics": "Scores",
    "figures": "Figures",
    "engines": "Training",
    "inference": "Prediction",
    "inference.whole_slide": "Whole slides",
    "interactive": "Clicks",
    "registry": "Registry",
}
"""Rooms of the library with an `__all__`, and the titles of their pages."""


def write(folder: Path) -> None:
    """Write `knobs/`, `commands/` and `api/` in the folder of the reference, in place of those of before."""
    for name, pages in (("knobs", knob_pages()), ("commands", command_pages()), ("api", api_pages())):
        shutil.rmtree(folder / name, ignore_errors=True)
        for page, text in pages.items():
            write_text(folder / name / page, text)


def knob_pages() -> dict[str, str]:
    """A page for each group of knobs."""
    groups: Mapping[str, Mapping[str, Knob]] = {**GROUPS, **OTHERS}
    pages = {f"{_slug(title)}.md": _knob_page(title, knobs.values()) for title, knobs in groups.items()}
    where = "\n".join(
        f"- [{title.replace('`', '')}]({_slug(title)}.md): " + ", ".join(f"`{name}`" for name in knobs)
        for title, knobs in groups.items()
    )
    text = (
        "# Knobs\n\nEvery setting of `training`, `evaluating`, `inference` and `inference_wsi`; `cvm-monai compare` "
        "and `ablate` take those of a training too. Type them as `--name value`; `null` is no value.\n\n" + where
    )
    return {"index.md": text + _contents(pages), **pages}


def command_pages() -> dict[str, str]:
    """A page for each command of `cvm-monai`, from its parser."""
    parser = command_line._parser()
    (commands,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    pages = {f"{name}.md": _command_page(name, one) for name, one in commands.choices.items()}
    where = "\n".join(f"- [`cvm-monai {one.dest}`]({one.dest}.md): {one.help}" for one in commands._choices_actions)
    text = f"# Commands\n\nWhat `cvm-monai COMMAND --help` prints, as pages.\n\n{where}"
    return {"index.md": text + _contents(pages), **pages}


def api_pages() -> dict[str, str]:
    """The front door and one page for each room, as directives of autodoc."""
    pages = {"front_door.rst": _api_page("cvm_monai", "The front door")}
    pages |= {f"{room.replace('.', '_')}.rst": _api_page(f"cvm_monai.{room}", title) for room, title in ROOMS.items()}
    text = (
        "# API\n\n`import cvm_monai as cvm` offers the names of the front door, loaded when they are asked for. The "
        "rooms behind it hold the rest; imports go from the workflows down to the mathematics.\n"
    )
    return {"index.md": text + _contents(pages, depth=1, hidden=False), **pages}


def _contents(pages: Iterable[str], *, depth: int = 1, hidden: bool = True) -> str:
    names = "\n".join(page.rpartition(".")[0] for page in pages)
    return f"\n\n```{{toctree}}\n:maxdepth: {depth}\n" + (":hidden:\n" if hidden else "") + f"\n{names}\n```\n"


def _knob_page(title: str, knobs: Iterable[Knob]) -> str:
    return f"# Knobs: {title.replace('`', '')}\n\n" + "\n".join(map(_knob, knobs))


def _knob(knob: Knob) -> str:
    return (
        f"## `{knob.name}`\n\nDefault: {default_words(knob)}. May be: {range_words(knob)}.\n\n"
        f"{_sentence(_linked(knob.help, up='../../'))}\n"
    )


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", ")")) else f"{text}."


def _linked(text: str, *, up: str) -> str:
    """Make a page's path in a help text, `docs/how_to/resume.md`, a link."""
    return re.sub(r"`docs/(\w+/(\w+)\.md)`", lambda page: f"[{page[2].replace('_', ' ')}]({up}{page[1]})", text)


def _command_page(name: str, parser: argparse.ArgumentParser) -> str:
    """Title, description, arguments, options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    formatter = parser._get_formatter()
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    parts = [f"# cvm-monai {name}", "", "```text", usage, "```", ""]
    if parser.description:
        parts += ["```text", inspect.cleandoc(parser.description), "```", ""]
    for action in parser._actions:
        if action.help is argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        words = formatter._format_action_invocation(action)
        text = formatter._expand_help(action) if action.help else ""
        default = "" if action.default in (None, False, argparse.SUPPRESS) or "default" in text else action.default
        parts += [
            f"`{words}`",
            f": {_plain(text) or 'No description.'}" + (f" Default: {default}." if default else ""),
            "",
        ]
    if parser.epilog:
        parts += ["```text", inspect.cleandoc(parser.epilog), "```", ""]
    return "\n".join(parts)


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([*_<>|$])", r"\\\1", text)


def _api_page(module: str, title: str) -> str:
    """Directives for the documented names of a module's `__all__`; classes with their documented methods."""
    found = importlib.import_module(module)
    sections = [title, "=" * len(title), "", f"``{module}``: {_first_line(found)}", ""]
    for name in found.__all__:
        value = getattr(found, name)
        again = module != "cvm_monai" and any(value is getattr(cvm_monai, front) for front in cvm_monai.__all__)
        sections += _directive(f"{module}.{name}", value, again=again)
    return "\n".join(sections)


def _first_line(module: Any) -> str:
    return (module.__doc__ or "").strip().partition("\n")[0]


def _directive(name: str, value: Any, *, again: bool) -> list[str]:
    """A class is indexed once, since its attributes have one name wherever it is found."""
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:", *["   :no-index:"] * again, ""]
    if callable(value) and inspect.isroutine(value):
        return [f".. autofunction:: {name}", ""]
    words = repr(value).replace("typing.", "")
    shown = words if len(words) <= 200 and " at 0x" not in words else f"{words[:200]}..."
    return [f".. py:data:: {name}", "", f"   ``{shown}``", ""]


def _slug(title: str) -> str:
    return re.sub(r"\W+", "_", title.lower()).strip("_")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
