"""How Sphinx builds the guide: `make docs`. Its pages are Markdown (myst-parser)."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.search import languages
from sphinx.search.en import SearchEnglish
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


# The pages in docs/zh. A line of Chinese text may end anywhere, and there are no spaces between the
# characters.
_CHINESE = r"\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
_LINE_END = re.compile(rf"(?<=[{_CHINESE}])\n *(?=\[?[{_CHINESE}])")


def _join_chinese_lines(_app: Sphinx, page: str, source: list[str]) -> None:
    """Leave out line ends between Chinese characters: a browser would show them as spaces."""
    if page.startswith("zh/"):
        source[0] = _LINE_END.sub("", source[0])


def _show_in_chinese(
    _app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: object
) -> None:
    """Name the language of a Chinese page, and list the Chinese pages first in its margin.

    Browsers choose the forms of Chinese characters by the language.
    """
    if page.startswith("zh/"):
        context["language"] = "zh-CN"
        lists = re.split('(?=<p class="caption")', context["furo_navigation_tree"])
        lists.sort(key=lambda each: "中文<" not in each)
        context["furo_navigation_tree"] = "".join(lists)


class SearchEnglishAndChinese(SearchEnglish):
    """The words of both languages.

    Chinese text has no spaces: to Sphinx, all between two punctuation marks is one word. Here, each
    two neighbouring characters are one, in the text and in what a reader looks for.
    """

    js_splitter_code = r"""
function splitQuery(query) {
  const words = query.match(/[\u4e00-\u9fff]+|((?![\u4e00-\u9fff])[\p{Letter}\p{Number}_])+/gu);
  return (words || []).flatMap(function (word) {
    return word.match(/^[\u4e00-\u9fff]{2,}$/)
      ? Array.from(word.slice(1), function (_, at) { return word.slice(at, at + 2); })
      : [word];
  });
}
"""

    def split(self, input: str) -> list[str]:  # noqa: A002 - Sphinx's name
        """Return the words of a text; of Chinese text each character, and each two."""
        found = []
        for word in re.findall(r"[\u4e00-\u9fff]+|[^\W\u4e00-\u9fff]+", input):
            is_chinese = "\u4e00" <= word[0] <= "\u9fff"
            pairs = [a + b for a, b in itertools.pairwise(word)]
            found += [*word, *pairs] if is_chinese else [word]
        return found


languages["en"] = SearchEnglishAndChinese


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
    app.connect("source-read", _join_chinese_lines)
    app.connect("html-page-context", _show_in_chinese, priority=900)  # after furo
    return {"parallel_read_safe": True}
