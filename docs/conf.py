"""Sphinx: the site of the documentation. `make docs` builds it, offline and with warnings as errors."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tools")]

import reference_pages  # noqa: E402

import cvm_monai  # noqa: E402

reference_pages.write(DOCS / "reference")

project = "cvm_monai"
author = copyright = "cvm_monai developers"
version = release = cvm_monai.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
default_role = "code"
smartquotes = False  # --knob stays as it is typed

myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
nb_execution_mode = "cache"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_execution_show_tb = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "cvm_monai"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}

MARKUP = re.compile(r"(``.+?``|`[^`]+`)|([|*])|(?<=\w)(_)(?!\w)")


def escape(app, what, name, obj, options, lines) -> None:
    """Escape what the plain text of our docstrings would mean in reStructuredText: | and *, and a trailing _."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = MARKUP.sub(lambda found: found[1] or "\\" + (found[2] or found[3]), line)


def shorten(app, what, name, obj, options, signature, returns) -> tuple[str | None, str | None]:
    """Write a default that is made anew each time as `...`, so that the signature is Python."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app) -> None:
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", escape, priority=100)  # before napoleon
