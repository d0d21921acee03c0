"""The map in tests/README.md is complete, and each file and test that a text names exists."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
NAMED = re.compile(r"(?<![\w/.-])tests/[\w/*]+(?:\.\w+)?(?:::\w+)?")
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "Makefile", "pyproject.toml", ".ci/run", "tests/**/*.*")
    for path in ROOT.glob(pattern)
    if path.suffix in {".md", ".py", ".sh", ".toml", ""} and path != Path(__file__)
)


# Where a path in ARCHITECTURE.md or native/README.md may begin.
BEGINNINGS = ("", "src/onecopy", "native", "src/onecopy/_codec", "src/onecopy/_core")


def folders():
    return {path.parent.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/*.py")}


def test_every_folder_stands_in_the_map():
    told = re.findall(r"`(\w+)/`", (TESTS / "README.md").read_text(encoding="utf-8"))
    assert folders() - set(told) == set()
    assert {name for name in told if not (TESTS / name).is_dir()} == set()


def test_names_of_files_are_used_once():
    """pytest imports them by their names, except those in packages."""
    names = Counter(
        path.name for path in TESTS.rglob("test_*.py") if not (path.parent / "__init__.py").exists()
    )
    assert {name for name, count in names.items() if count > 1} == set()


def test_the_makefile_names_what_is_there():
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    lists = re.findall(r"\$\(addprefix tests/,([^)]*)\)", text)
    assert len(lists) == 2
    named = [name for words in lists for name in words.split()]
    assert [name for name in named if not (TESTS / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_is_there(page):
    for name in NAMED.findall(page.read_text(encoding="utf-8")):
        path, _, test = name.partition("::")
        found = [*ROOT.glob(path), *(ROOT / "native").glob(path)]
        assert found, name
        if test:
            tree = ast.parse(found[0].read_text(encoding="utf-8"))
            assert test in {node.name for node in ast.walk(tree) if hasattr(node, "name")}, name


def rows():
    """Yield the rows of tables and the paragraphs of the pages on the structure."""
    for page in ("ARCHITECTURE.md", "native/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for part in re.split(r"\n(?=\|)|\n\n", text):
            if "`" in part:
                yield pytest.param(part, id=f"{page}: {part[:60]!r}")


@pytest.mark.parametrize("part", list(rows()))
def test_files_of_the_architecture_are_there(part):
    """Each name of a file in backticks. One without a folder lies beside another one of its row."""
    named = re.findall(r"`([\w/.*-]+(?:\.(?:py|pyi|cpp|hpp|md|toml|\*)|/))`", part)
    beside = {Path(name) if name.endswith("/") else Path(name).parent for name in named}
    for name in named:
        places = [ROOT / top / near for top in BEGINNINGS for near in (Path(), *beside)]
        assert any([*place.glob(name)] for place in places), name
