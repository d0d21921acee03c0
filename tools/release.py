"""Make a release: the version, the changelog, a commit and a tag, in one command.

Usage: python tools/release.py VERSION [--dry-run]

VERSION is as in "1.2.3" or "1.2.0rc1", and not lower than the present one. The work tree must have
no changes, and the changelog something under "Unreleased". Nothing is pushed: the command that does
it is printed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:(a|b|rc)(\d+))?")
UNRELEASED = "## [Unreleased]\n"
# Where the version stands. Each line occurs once.
PLACES = {
    "pyproject.toml": 'version = "{}"\n',
    "src/onecopy/__init__.py": '__version__ = "{}"\n',
    "CITATION.cff": "version: {}\n",
}


class Refused(Exception):  # noqa: N818 - it is printed, and nothing else
    """There is no release to make. The text says why."""


def order(version: str) -> tuple[int, int, int, str, int]:
    """Return what versions are compared by; "1.2.0rc1" is before "1.2.0"."""
    match = VERSION.fullmatch(version)
    if match is None:
        raise Refused(f"{version!r} is no version: write it as in 1.2.3 or 1.2.0rc1")
    major, minor, patch, stage, number = match.groups()
    return int(major), int(minor), int(patch), stage or "z", int(number or 0)


def present(root: Path) -> str:
    """Return the version of the project."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.*)"$', text, re.MULTILINE)
    if found is None:
        raise Refused("pyproject.toml has no line: version = ...")
    return found[1]


def replaced(text: str, old: str, new: str, where: str) -> str:
    """Replace a line that must occur once."""
    if ("\n" + text).count("\n" + old) != 1:
        raise Refused(f"{where} does not have exactly one line {old.strip()!r}")
    return ("\n" + text).replace("\n" + old, "\n" + new)[1:]


def changelog(text: str, version: str, date: str) -> str:
    """Give what is unreleased the version and the date."""
    before, found, rest = text.partition(UNRELEASED)
    news = rest.partition("\n## ")[0]
    if not found or not news.strip():
        raise Refused("CHANGELOG.md has nothing under 'Unreleased'")
    return f"{before}{UNRELEASED}\n## [{version}] - {date}\n{rest}"


def prepare(root: Path, version: str, date: str) -> dict[str, str]:
    """Return the new text of each file that changes."""
    old = present(root)
    if order(version) < order(old):
        raise Refused(f"{version} is lower than the present version, {old}")
    texts = {name: (root / name).read_text(encoding="utf-8") for name in PLACES}
    answer = {
        name: replaced(text, PLACES[name].format(old), PLACES[name].format(version), name)
        for name, text in texts.items()
    }
    log = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    answer["CHANGELOG.md"] = changelog(log, version, date)
    return answer


def git(root: Path, *arguments: str) -> str:
    """Run git, and return what it prints."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Refused(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def release(root: Path, version: str, date: str, *, dry: bool) -> str:
    """Make the release; return what to do next."""
    changes = prepare(root, version, date)
    if git(root, "status", "--porcelain"):
        raise Refused("the work tree has changes: commit them, or put them aside (git stash)")
    if git(root, "tag", "--list", f"v{version}"):
        raise Refused(f"the tag v{version} exists")
    if dry:
        return f"would change {', '.join(changes)}, commit, and set the tag v{version}"
    for name, text in changes.items():
        (root / name).write_text(text, encoding="utf-8")
    git(root, "commit", "--quiet", "-m", f"Release {version}", "--", *changes)
    git(root, "tag", "-a", f"v{version}", "-m", f"onecopy {version}")
    return f"made the tag v{version}. To publish it: git push origin HEAD v{version}"


def main(arguments: list[str]) -> int:
    """Make a release."""
    versions = [each for each in arguments if not each.startswith("-")]
    if len(versions) != 1 or set(arguments) - {"--dry-run", *versions}:
        sys.stderr.write(str(__doc__))
        return 2
    try:
        dry = "--dry-run" in arguments
        done = release(ROOT, versions[0], time.strftime("%Y-%m-%d"), dry=dry)
    except Refused as why:
        sys.stderr.write(f"no release: {why}\n")
        return 1
    sys.stdout.write(done + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
