"""Table 1 letter by letter, and the page that shows it."""

import base64
import re
from html.parser import HTMLParser

from matplotlib.figure import Figure

from cvm_monai.experiments.page import Picture, make_page
from cvm_monai.experiments.plan import title
from cvm_monai.experiments.result_tables import ResultTable
from cvm_monai.experiments.table import latex, make_table, markdown, table_csv

from .conftest import row

ROWS = {
    "partial_ce": [row("partial_ce", "a", 0.4), row("partial_ce", "b", 0.6, fold=1)],
    "cvm": [row("cvm", "a", 0.6), row("cvm", "b", 0.8, fold=1), row("cvm", "c", None, fold=1)],
    "full": [row("full", "a", 0.9)],
    "crf": [],
}


def table(rows=ROWS):
    return make_table(rows, upper="full", facts=["2 folds & 100 % of `data`."])


def test_markdown_has_the_best_weak_method_in_bold_and_the_upper_bound_apart():
    assert markdown(table()) == (
        "# Table 1\n\n- 2 folds & 100 % of `data`.\n\n"
        "| Method | Dice | Accuracy | Precision | Cohen's kappa | AUC | Folds |\n"
        "|---|---|---|---|---|---|---|\n"
        "| Partial CE (`partial_ce`)" + " | 0.500 ± 0.141" * 5 + " | 2 |\n"
        "| CVM (`cvm`)" + " | **0.700 ± 0.141**" * 5 + " | 2 |\n"
        "| *Full supervision (`full`): upper bound, learnt from dense masks*" + " | 0.900" * 5 + " | 1 |\n\n"
        "- CVM: undefined and left out of the means are Dice of 1, Accuracy of 1, Precision of 1, Cohen's kappa of 1, "
        "AUC of 1 scored images.\n"
    )


def test_csv_has_six_decimals_and_empty_cells():
    lines = table_csv(table()).splitlines()
    assert lines[0].startswith("method,folds,dice_mean,dice_sd,dice_left_out,accuracy_mean,")
    assert lines[1] == "partial_ce,2" + ",0.500000,0.141421,0" * 5
    assert lines[3] == "full,1" + ",0.900000,,0" * 5


def test_latex_needs_no_package_and_escapes():
    text = latex(table(ROWS | {"my_arm": [row("my_arm", "a", 0.1)]}))
    assert text.splitlines() == [
        "% 2 folds & 100 % of `data`.",
        r"\begin{tabular}{lccccc}",
        r"\hline",
        r"Method & Dice & Accuracy & Precision & Cohen's kappa & AUC \\",
        r"\hline",
        "Partial CE" + r" & 0.500 $\pm$ 0.141" * 5 + r" \\",
        "CVM" + r" & \textbf{0.700 $\pm$ 0.141}" * 5 + r" \\",
        "my arm" + " & 0.100" * 5 + r" \\",
        r"\hline",
        "Full supervision" + " & 0.900" * 5 + r" \\",
        r"\hline",
        r"\end{tabular}",
    ]


def test_a_lone_weak_method_is_not_the_best_of_anything():
    assert "**" not in markdown(table({"cvm": ROWS["cvm"], "full": ROWS["full"]}))
    assert "undefined" in markdown(table({"cvm": [row("cvm", "a", None)]}))


def test_a_method_without_a_name_in_words_loses_its_underscores():
    assert title("frozen_probe") == "frozen probe"


class Images(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_in_itself_and_well_formed():
    findings = [
        ResultTable("Heading <1>", ("A", "B"), (("x < y", "z" * 50),), ("A `note`.",)),
        ResultTable("None", (), (), ()),
    ]
    page = make_page(
        "Name & <b>", table(), [Picture("Picture", Figure((1, 1)), "caption", "a.png")], findings, ["python -m x"]
    )
    parser = Images()
    parser.feed(page)
    assert parser.open == []
    (source,) = parser.sources
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert not re.search(r"https?://|<script|<link", page)
    for text in ("<h1>Name &amp; &lt;b&gt;</h1>", "<b>0.700 ± 0.141</b>", "x &lt; y", "A <code>note</code>.",
                 "2 folds &amp; 100 % of <code>data</code>.", "python -m x"):  # fmt: skip
        assert text in page
