"""The pages of the documents: short, linked to what is there, with generated pictures; the tutorial without outputs."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GENERATED = [DOCS / "reference" / name for name in ("knobs", "commands", "api")]
PAGES = sorted(page for page in DOCS.rglob("*.md") if not any(folder in page.parents for folder in GENERATED))
FOLDERS = ("get_started", "how_to", "concepts", "reference")
SORTED = [page for page in PAGES if page.parent.name in FOLDERS or page == DOCS / "index.md"]
WORDS, CELL = 700, 65


@pytest.mark.parametrize("page", SORTED, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_is_short(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.split()) <= WORDS
    cells = [cell for line in text.splitlines() if line.startswith("|") for cell in re.split(r"(?<!\\)\|", line)]
    assert max((len(cell.split()) for cell in cells), default=0) < CELL


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)]
    files = [(page.parent / link).resolve() for link in links if link]
    missing = [file for file in files if not file.exists() and not any(folder in file.parents for folder in GENERATED)]
    assert missing == []


def test_every_page_is_in_one_of_four_folders_and_in_its_list():
    for folder in FOLDERS:
        listed = (DOCS / folder / "index.md").read_text(encoding="utf-8").split()
        names = {page.stem for page in (DOCS / folder).glob("*.md")} - {"index"}
        assert names, folder
        assert names <= set(listed), folder


def test_documents_named_in_code_and_configurations_are_there():
    places = [*ROOT.glob("cvm_monai/**/*.py"), *ROOT.glob("bundle/**/*.yaml"), ROOT / "bundle/docs/README.md"]
    named = {(path.name, name) for path in places for name in re.findall(r"docs/\w+/\w+\.md", path.read_text("utf-8"))}
    assert len(named) >= 10
    assert [pair for pair in named if not (ROOT / pair[1]).is_file()] == []


def test_every_picture_is_shown_somewhere():
    texts = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "README.md"])
    pictures = sorted(path.name for path in (DOCS / "images").iterdir())
    assert len(pictures) >= 12
    assert [name for name in pictures if f"images/{name}" not in texts] == []


def test_the_tutorial_is_kept_without_outputs():
    cells = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
