"""How Sphinx builds the guide: `make docs`. Its pages are Markdown (myst-parser)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import onecopy
from onecopy._core.arguments import Elsewhere

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "onecopy"
author = "The onecopy authors"
copyright = "The onecopy authors. Apache-2.0"  # noqa: A001 - Sphinx's name
release = version = onecopy.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["pictures"]

html_theme = "furo"
html_title = f"onecopy {release}"
html_show_sourcelink = False
html_static_path: list[str] = []
html_theme_options = {"navigation_with_keys": True}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
highlight_language = "text"  # of blocks that name none: outputs and drawings

default_role = "code"  # a word in single backticks in a docstring
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True
# Several classes have a `name` or a `size`. A reference to such a word leads to one of them.
suppress_warnings = ["ref.python"]

# What other modules of the package use of a class.
_INNER = {"handle", "member", "detach", "of", "adopt"}

# Links from pages to files of the repository that are no pages.
_REPOSITORY = os.environ.get("ONECOPY_REPOSITORY", "")
_OUTSIDE = re.compile(r"\[([^\]\n]*(?:\n[^\]\n]*)?)\]\(((?:\.\./)+)((?!docs/)[^)#]*)\)")


def _skip(_app: Sphinx, _what: str, name: str, thing: object, skip: bool, _options: object) -> bool:
    return skip or name in _INNER or isinstance(thing, Elsewhere)


def _link_to_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Lead to files of the repository on the forge, if its address is known; else name them."""

    def link(match: re.Match[str]) -> str:
        if match[2].count("../") <= page.count("/"):
            return match[0]  # to a page of the guide
        words, target = match[1], match[3]
        if _REPOSITORY:
            return f"[{words}]({_REPOSITORY.rstrip('/')}/blob/main/{target})"
        return words if target in words else f"{words} (`{target}`)"

    del app
    source[0] = _OUTSIDE.sub(link, source[0])


class CommandHelp(SphinxDirective):
    """The help text of a command: ``{command-help} onecopy ls``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Call the command with --help."""
        words = self.arguments[0].split()
        done = subprocess.run(
            [sys.executable, "-m", *words, "--help"],
            env={**os.environ, "COLUMNS": "92", "NO_COLOR": "1", "TERM": "dumb"},
            capture_output=True,
            text=True,
            check=True,
        )
        text = "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip()
        section = nodes.section(ids=[nodes.make_id(" ".join(words))])
        section += nodes.title(text=" ".join(words))
        section += nodes.literal_block(text, text, language="text")
        return [section]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect what is special here."""
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-skip-member", _skip)
    app.connect("source-read", _link_to_files)
    return {"parallel_read_safe": True}
