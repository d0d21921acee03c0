"""The Chinese README and the Chinese pages of the guide do not lag behind the English ones.

Each page of `FOLDERS`, and the index, has a Chinese page of the same name in docs/zh. Its last line
has the beginning of the SHA-256 of the English text: a change of the English page fails here until
the Chinese page has been changed, too.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from os.path import normpath
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOLDERS = ("tutorials", "how-to", "explanation")
PAGES = [
    "index.md",
    *(
        f"{folder}/{page.name}"
        for folder in FOLDERS
        for page in sorted((DOCS / folder).glob("*.md"))
    ),
]
BLOCK = re.compile(r"^( *)(`{3,}).*?^\1\2$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text):
    """Return the blocks, without the lists of pages: the Chinese guide has its own."""
    found = [match[0] for match in BLOCK.finditer(text)]
    return [block for block in found if not block.startswith("```{toctree}")]


def headings(text):
    return Counter(len(match[1]) for match in HEADING.finditer(BLOCK.sub("", text)))


def english_target(name, target):
    """Return the path to which a link leads; of a Chinese page, that of its English twin."""
    if "://" in target:
        return target
    file, _, heading = target.partition("#")
    path = normpath(PurePosixPath(name).parent / file) if file else name
    if path.startswith("docs/zh/"):
        return path.replace("/zh", "", 1)
    if heading and not (ROOT / path.replace("docs/", "docs/zh/", 1)).is_file():
        return f"{path}#{heading}"
    return path


def targets(name, text, *, pictures):
    found = [
        english_target(name, target)
        for mark, target in LINK.findall(BLOCK.sub("", text))
        if bool(mark) == pictures
    ]
    return sorted(found)


def lead_to_english(name, text):
    """Return the links to English pages that exist in Chinese."""
    found = []
    for target in re.findall(r"\]\(([^)#:]+\.md)", BLOCK.sub("", text)):
        path = normpath(PurePosixPath(name).parent / target)
        if path.startswith("docs/") and not path.startswith("docs/zh/"):
            twin = path.replace("docs/", "docs/zh/", 1)
            if (ROOT / twin).is_file() and twin != name:  # the language switch leads to its own
                found.append(target)
    return found


def stamp(name, text):
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"<!-- translated from {name} with the SHA-256 {digest} -->"


def unequal(what, chinese, english):
    return [] if chinese == english else [f"{what} differ: {chinese} here, {english} in English"]


def differences(page, english, chinese):
    """Tell how a Chinese page differs from its English one, and what to do."""
    name, twin = f"docs/{page}", f"docs/zh/{page}"
    up = "../" * (page.count("/") + 1)
    found = []
    for number, (mine, theirs) in enumerate(zip(blocks(chinese), blocks(english), strict=False), 1):
        if mine != theirs:
            found.append(f"block {number} differs from the English one; copy this:\n{theirs}")
    found += unequal("the numbers of blocks", len(blocks(chinese)), len(blocks(english)))
    found += unequal("the headings of each level", dict(headings(chinese)), dict(headings(english)))
    found += unequal(
        "the pictures",
        targets(twin, chinese, pictures=True),
        targets(name, english, pictures=True),
    )
    if page != "index.md":  # it lists what there is in Chinese
        found += unequal(
            "the links",
            *(
                [each for each in targets(*of, pictures=False) if each != name]
                for of in ((twin, chinese), (name, english))
            ),
        )
    found += [
        f"{target} exists in Chinese: let the link lead to the page in docs/zh"
        for target in lead_to_english(twin, chinese)
    ]
    for of, text, switch in (
        (twin, chinese, f"[English]({up}{page})"),
        (name, english, f"[中文]({up[3:]}zh/{page})"),
    ):
        if text.split("\n")[1:3] != ["", switch]:
            found.append(f"under the title of {of}, write an empty line, and then\n{switch}")
    if chinese.rstrip("\n").split("\n")[-1] != stamp(name, english):
        found.append(
            f"it is not the translation of this text of {name}. Look what has changed there"
            f" (git log -p {name}), change {twin}, and then its last line into\n"
            f"{stamp(name, english)}"
        )
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_chinese_page_is_that_of_the_english_page(page):
    twin = f"docs/zh/{page}"
    assert (ROOT / twin).is_file(), (
        f"There is no {twin}. Translate docs/{page}, with the words of docs/zh/terms.md."
        " CONTRIBUTING.md (Language) says what such a page has."
    )
    found = differences(page, text_of(f"docs/{page}"), text_of(twin))
    assert not found, f"{twin}:\n" + "\n".join(found)


def test_each_chinese_page_has_an_english_one():
    chinese = {path.relative_to(DOCS / "zh").as_posix() for path in (DOCS / "zh").rglob("*.md")}
    assert chinese - {*PAGES, "terms.md"} == set(), "remove, or move, as the English pages were"


ENGLISH = """# Title

[中文](../zh/how-to/x.md)

See [sizes](sizes-and-poolfull.md) and [files](../files.md#errors).

![a pool](../pictures/one-pool.svg)

## Part

```python
# a comment
```
"""
CHINESE = f"""# 标题

[English](../../how-to/x.md)

见[文件](../../files.md#errors)、[大小](sizes-and-poolfull.md)。

![池](../../pictures/one-pool.svg)

## 部分

```python
# a comment
```

{stamp("docs/how-to/x.md", ENGLISH)}
"""


def test_equal_pages_do_not_differ():
    assert differences("how-to/x.md", ENGLISH, CHINESE) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("# a comment", "# 注释", "block 1 differs"),
        ("```python\n# a comment\n```\n", "", "numbers of blocks"),
        ("## 部分\n", "### 部分\n", "headings of each level"),
        ("one-pool.svg", "by-pool.svg", "pictures"),
        ("files.md#errors", "files.md", "links"),
        ("(sizes-and", "(../../how-to/sizes-and", "exists in Chinese"),
        ("[English]", "[英文]", "under the title"),
        ("SHA-256 ", "SHA-256 0", "not the translation of this text"),
        ("\n\n<!--", "\n\n其他\n<!--", None),
        ("-->\n", "-->\n其他\n", "not the translation of this text"),
    ],
)
def test_differences_are_found(old, new, found):
    assert old in CHINESE
    differ = differences("how-to/x.md", ENGLISH, CHINESE.replace(old, new))
    assert len(differ) == (found is not None), differ
    assert found is None or found in differ[0]


def test_the_english_page_has_a_switch():
    english = ENGLISH.replace("[中文]", "[Chinese]")
    differ = differences("how-to/x.md", english, CHINESE)
    assert any("[中文](../zh/how-to/x.md)" in each for each in differ)


class TestReadme:
    ENGLISH = text_of("README.md")
    CHINESE = text_of("README.zh-CN.md")

    def test_the_code_is_the_same(self):
        assert blocks(self.ENGLISH)
        assert blocks(self.CHINESE) == blocks(self.ENGLISH)

    def test_the_links_are_the_same(self):
        switch = {"README.md", "README.zh-CN.md"}
        for pictures in (False, True):
            found = [
                [each for each in targets(*of, pictures=pictures) if each not in switch]
                for of in (("README.zh-CN.md", self.CHINESE), ("README.md", self.ENGLISH))
            ]
            assert found[0] == found[1]
        assert "(README.zh-CN.md)" in self.ENGLISH
        assert "(README.md)" in self.CHINESE
        assert lead_to_english("README.zh-CN.md", self.CHINESE) == []

    def test_the_translation_is_of_this_text(self):
        """If the English text has changed: change the Chinese one, and then the stamp."""
        assert self.CHINESE.rstrip("\n").split("\n")[-1] == stamp("README.md", self.ENGLISH)
