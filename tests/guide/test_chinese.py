"""The Chinese README does not lag behind the English one."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")


def blocks(text):
    return re.findall(r"^```.*?^```$", text, re.DOTALL | re.MULTILINE)


def links(text):
    return re.findall(r"\]\(([^)]+)\)", text)


def test_the_code_is_the_same():
    assert blocks(ENGLISH)
    assert blocks(CHINESE) == blocks(ENGLISH)


def test_the_links_are_the_same():
    switch = {"README.md", "README.zh-CN.md"}
    assert [each for each in links(CHINESE) if each not in switch] == [
        each for each in links(ENGLISH) if each not in switch
    ]
    assert "README.zh-CN.md" in links(ENGLISH)
    assert "README.md" in links(CHINESE)


def test_the_translation_is_of_this_text():
    """If the English text has changed: change the Chinese one, and then the stamp at its end."""
    now = hashlib.sha256(ENGLISH.encode()).hexdigest()[:16]
    assert f"translated from README.md with the SHA-256 {now}" in CHINESE
