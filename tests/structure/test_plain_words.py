"""Comments, docstrings, messages and pages use the words of docs/glossary.md.

`REPLACED` lists words that this project does not use any more, and what to write instead. The test
reads comments and strings of Python, C++ and JavaScript files, and the pages. `NOT_YET` lists the
paths that still have such words.
"""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINE = 120  # characters of a line in a page

# Of processes, threads and things. (People and users are persons: "people who change onecopy".)
VERBS = (
    "asks?|can(?:not)?|chang(?:es?|ed)|comes?|could|die[sd]?|does|doubts?|excludes?|finds?|frees?"
    "|gets?|had|has|have|holds?|is|joins?|keeps?|knows?|may|might|must|needs?|only|opens?|owns?"
    "|produces?|publish(?:es)?|puts?|reads?|receives?|repairs?|sees?|sends?|should|sleeps?|starts?"
    "|stands?|takes?|took|tries|try|use[sd]?|waits?|wakes?|wants?|was|were|will|works?|would"
    "|writes?|wrote"
)

REPLACED = {
    r"let(?:s|ting)? go\b": "release",
    r"\bwhoever\b|\bwhomever\b": "a process that",
    rf"(?<!people )(?<!users )(?<!authors )\bwho (?:{VERBS})\b": "a process that, which process",
    r"\bwhom\b": "for which, to which",
    r"\b(?:is|are|was|were|be|been|being) told\b|\btold of\b": "notified, reported",
    r"\bhush\w*": "clear",
    r"\b(?:go|goes|come|comes|went|gone) home\b|\bat home\b": "becomes free, is free",
    r"\bsomebody\b|\beverybody\b": "another process, all processes",
    r"\banew\b|\bafresh\b": "again",
    r"\bgo(?:es)? on\b|\bwent on\b": "continue, resume",
    r"\bwill not do\b": "is not valid",
    r"\bin (?:somebody|nobody|anybody)'s hands\b|\bin its hands\b": "held",
    r"\b(?:and|or|their|its) friends\b|\band (?:its|their) kin\b": "name the things",
    r"\b(?:is|are) had\b": "is received",
    r"\bspoilt\b": "damaged",
    r"\bkeepers?\b": "owner process",
    r"\blet in\b": "may enter",
    r"\bsees? to it that\b": "ensures that",
    r"\bwhole at every\b": "atomic",
    r"\b(?:[Nn]ever|[Nn]owhere) is (?:a|an|the|it|this)\b": "is never",
}

NOT_YET = {
    "tests/structure/test_plain_words.py": "has the words",
    ".github/": "forms of the forge",
    "src/onecopy/web/static/uplot/": "is another project's",
}

RULES = {re.compile(words, re.IGNORECASE): instead for words, instead in REPLACED.items()}


def files(*endings):
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    for name in done.stdout.splitlines():
        if name.endswith(endings) and not name.startswith(tuple(NOT_YET)):
            path = ROOT / name
            if path.is_file():
                yield name, path.read_text(encoding="utf-8")


def words_in(name, text):
    """Yield the first line and the text of each comment and string, or of each paragraph."""
    if name.endswith(".md"):
        for match in re.finditer(r"(?:[^\n]+\n?)+", text):
            yield text.count("\n", 0, match.start()) + 1, match[0]
        return
    if name.endswith((".cpp", ".hpp", ".h", ".js")):
        yield from words_in_cpp(text)
        return
    comments = []
    kinds = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in kinds:
            yield token.start[0], token.string
        elif token.type == tokenize.COMMENT:
            comments.append((token.start[0], token.string))
    block = []  # lines of comments that follow each other are one text
    for line, comment in [*comments, (-1, "")]:
        if block and line != block[-1][0] + 1:
            yield block[0][0], "\n".join(each for _, each in block)
            block = []
        block.append((line, comment))


CPP = re.compile(
    r"//(?P<comment>[^\n]*)"
    r"|/\*(?P<block>.*?)\*/"
    r"|\"(?P<string>(?:\\.|[^\"\\\n])*)\""
    r"|`(?P<template>(?:\\.|[^`\\])*)`"  # of JavaScript
    r"|'(?:\\.|[^'\\\n])'",
    re.DOTALL,
)


def words_in_cpp(text):
    """Yield the first line and the text of neighbouring comments, and of neighbouring strings."""
    kind, first, end, words = None, 0, 0, []
    for match in CPP.finditer(text):
        if match.lastgroup is None:  # a character
            continue
        if match.lastgroup != kind or text[end : match.start()].strip():
            if words:
                yield first, "".join(words)
            kind, words = match.lastgroup, []
            first = text.count("\n", 0, match.start()) + 1
        words.append(match[kind])
        end = match.end()
    if words:
        yield first, "".join(words)


def replaced_in(name, text):
    found = []
    for line, words in words_in(name, text):
        joined = re.sub(r"\s*\n\s*(?:#:?\s?)?", " ", words)
        if name.endswith(".md"):
            joined = re.sub(r"`[^`]*`|\"[^\"]*\"", "", joined)  # code, and names of tests
        for rule, instead in RULES.items():
            found += [
                f"{name}:{line}: {each[0]!r}: write {instead}" for each in rule.finditer(joined)
            ]
    return found


def test_replaced_words_do_not_come_back():
    seen, found = 0, []
    for name, text in files(".py", ".pyi", ".md", ".cpp", ".hpp", ".h", ".js"):
        if name != Path(__file__).relative_to(ROOT).as_posix():
            seen += 1
            found += replaced_in(name, text)
    assert seen > 100
    assert found == []


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("a.py", "# Whoever waits\n# is told.\n", 2),
        ("a.py", "# The process lets\n# go of it.\n", 1),
        ("a.py", '"""Let go of it."""\n', 1),
        ("a.py", 'raise ValueError(f"{name} will not do")\n', 1),
        ("a.py", "lent = whoever.goes_home(anew)\n", 0),
        ("a.cpp", "// Whoever waits\n// is told.\n", 2),
        ("a.cpp", 'f("Let "\n  "it go on.");  // who waits\n', 2),
        ("a.cpp", "int anew = '\"';  // it's free\n", 0),
        ("a.cpp", "// The thread who wakes it, and who will write.\n", 2),
        ("a.cpp", "// People who use it: who(wakes).\n", 0),
        ("a.js", 'f(`for whom ${x}`, "x"); // a process\n// who owns it\n', 2),
        ("a.md", "It goes\non.\n", 1),
        ("a.md", "It continues.\n", 0),
    ],
)
def test_what_is_found(name, text, count):
    assert len(replaced_in(name, text)) == count


def test_lines_of_pages_are_short():
    long = []
    for name, text in files(".md"):
        is_code = False
        for number, line in enumerate(text.splitlines(), 1):
            is_code ^= line.lstrip().startswith("```")
            is_free = is_code or line.startswith(("|", "    ", "```"))  # tables, drawings, programs
            if len(line) > LINE and not is_free:
                long.append(f"{name}:{number}: {len(line)} characters")
    assert long == []
