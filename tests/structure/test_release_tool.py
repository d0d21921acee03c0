"""`tools/release.py`: version, changelog, commit and tag, in one command."""

import os
import runpy
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(PROJECT / "tools" / "release.py"))
FILES = [*TOOL["PLACES"], "CHANGELOG.md"]


def git(root, *arguments):
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    done = subprocess.run(
        ["git", *arguments], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def project(tmp_path):
    """A repository with the files that a release changes, as they are."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = (PROJECT / name).read_text(encoding="utf-8")
        if name == "CHANGELOG.md":
            text = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n"
        (tmp_path / name).write_text(text, encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.name", "A")
    git(tmp_path, "config", "user.email", "a@example.org")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "All")
    return tmp_path


def test_the_version_stands_where_the_tool_looks_for_it():
    version = TOOL["present"](PROJECT)
    for name, line in TOOL["PLACES"].items():
        text = "\n" + (PROJECT / name).read_text(encoding="utf-8")
        assert text.count("\n" + line.format(version)) == 1, name


def test_a_release(project):
    said = TOOL["release"](project, "9.2.3", "2026-12-01", dry=False)
    assert said == "made the tag v9.2.3. To publish it: git push origin HEAD v9.2.3"
    assert git(project, "tag", "--list").split() == ["v9.2.3"]
    assert git(project, "log", "-1", "--format=%s").strip() == "Release 9.2.3"
    assert git(project, "status", "--porcelain") == ""
    for name, line in TOOL["PLACES"].items():
        assert line.format("9.2.3") in (project / name).read_text(encoding="utf-8")
    log = (project / "CHANGELOG.md").read_text(encoding="utf-8")
    assert log == (
        "# Changelog\n\n## [Unreleased]\n\n## [9.2.3] - 2026-12-01\n\n### Added\n\n- A thing.\n"
    )
    with pytest.raises(TOOL["Refused"], match="nothing under 'Unreleased'"):
        TOOL["release"](project, "9.2.4", "2026-12-02", dry=False)


def test_a_dry_run_changes_nothing(project):
    assert "would change" in TOOL["release"](project, "9.2.3", "2026-12-01", dry=True)
    assert git(project, "tag", "--list") == git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("0.0.1", "lower than the present version"),
        ("1.2", "no version"),
        ("v1.2.3", "no version"),
        ("1.2.3-beta", "no version"),
    ],
)
def test_a_version_that_is_refused(project, version, why):
    with pytest.raises(TOOL["Refused"], match=why):
        TOOL["release"](project, version, "2026-12-01", dry=False)


def test_a_work_tree_with_changes_is_refused(project):
    (project / "more").touch()
    with pytest.raises(TOOL["Refused"], match="the work tree has changes"):
        TOOL["release"](project, "9.2.3", "2026-12-01", dry=False)


def test_a_tag_that_exists_is_refused(project):
    git(project, "tag", "v9.2.3")
    with pytest.raises(TOOL["Refused"], match=r"the tag v9\.2\.3 exists"):
        TOOL["release"](project, "9.2.3", "2026-12-01", dry=False)


def test_versions_are_in_order():
    order = TOOL["order"]
    versions = ["0.9.9", "1.0.0a2", "1.0.0b1", "1.0.0rc1", "1.0.0rc2", "1.0.0", "1.0.1", "1.10.0"]
    mixed = [versions[n] for n in (3, 0, 7, 1, 5, 2, 6, 4)]
    assert sorted(mixed, key=order) == versions


def test_the_command_says_how_to_use_it(capsys):
    assert TOOL["main"]([]) == 2
    assert "Usage: python tools/release.py VERSION" in capsys.readouterr().err
