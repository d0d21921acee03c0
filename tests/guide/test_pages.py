"""Pages that can be followed print what they show; blocks of the other pages are Python."""

import ast
import re
import textwrap

import pytest
from pages import ROOT, run_alone

# Pages that a reader follows from the top to the end. Other pages have fragments.
RUN = [
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
    *sorted((ROOT / "docs" / "coming-from").glob("*.md")),
    *(
        path
        for folder in ("how-to", "explanation")
        for path in sorted((ROOT / "docs" / folder).glob("*.md"))
        if re.search(r"^(>>>|\$) ", path.read_text(encoding="utf-8"), re.MULTILINE)
    ),
]
QUICK = {"first-pipeline"}  # in `make test`; the others in `make rest`
BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.stem in QUICK else pytest.mark.check, id=path.stem)
        for path in RUN
    ],
)
@pytest.mark.usefixtures("the_last_have_left")
def test_a_page_prints_what_it_shows(path, tmp_path):
    assert run_alone(path, tmp_path) > 0


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_blocks_are_python(path):
    for _, block in BLOCK.findall(path.read_text(encoding="utf-8")):
        code = textwrap.dedent(block)
        if not code.startswith(">>>"):
            ast.parse(code)
