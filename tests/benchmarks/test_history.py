"""How counts and times are judged: against forged profiles and times, so that nothing here
depends on the machine.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare, environment, instructions
from benchmarks.__main__ import main as measure
from benchmarks.__main__ import parse

ROOT = Path(__file__).parents[2]
PROFILE = """\
version: 1
positions: line
events: Ir
ob=(1) /usr/bin/python
fl=(1) ceval.c
fn=(1) eval
10 100
+2 5
cob=(2) /site/onecopy/_native.cpython-311.so
cfn=(2) put
calls=3 20
12 70
ob=(2)
fn=(2)
20 60
* 10
ob=(1)
fn=(1)
15 1
totals: 176
"""


def test_a_profile_is_summed_up_without_counting_calls_twice(tmp_path):
    path = tmp_path / "out.1"
    path.write_text(PROFILE)
    assert instructions.profile(path) == {"all": 176, "core": 70}


def test_what_happens_once_is_not_in_the_count_of_an_operation():
    once, twice = {"all": 1_000 + 500 * 30}, {"all": 1_000 + 1_000 * 30}
    assert instructions.per_operation(once, twice, 500) == {"all": 30.0}


def counts(**alls):
    return {name: {"all": number, "core": 1.0} for name, number in alls.items()}


def test_counts_within_three_percent_pass_and_others_are_named():
    kept = counts(same=1000, a_little=1000, more=1000, fewer=1000, gone=1000)
    found = counts(same=1000, a_little=1029, more=1031, fewer=969, new=5)
    lines = instructions.differences(kept, found)
    assert instructions.failed(lines) == ["more", "fewer", "new", "gone"]
    assert dict(lines)["more"].startswith("MORE 1,031 instructions")


def test_without_valgrind_it_is_said_that_nothing_was_compared(monkeypatch, capsys):
    monkeypatch.setattr(instructions.shutil, "which", lambda _name: None)
    assert instructions.main([]) == 0
    assert "NOT COMPARED: valgrind is not installed" in capsys.readouterr().out


def test_counts_of_another_compiler_are_not_compared(monkeypatch, capsys, tmp_path):
    kept = [{"setting": instructions.setting("gcc 7"), "commit": "abc", "counts": {}}]
    (tmp_path / "kept.json").write_text(json.dumps(kept))
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(instructions.shutil, "which", lambda _name: "/usr/bin/valgrind")
    monkeypatch.setattr(instructions, "compiler_of", lambda _path: "gcc 99")
    monkeypatch.setattr(instructions, "count", lambda _python: pytest.fail("counted"))
    assert instructions.main([]) == 0
    said = capsys.readouterr().out
    assert "NOT COMPARED" in said
    assert "gcc 99" in said
    assert "gcc 7" in said


def test_kept_counts_replace_those_of_the_same_setting(monkeypatch, tmp_path):
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "kept.json")
    old, new = instructions.setting("gcc 7"), instructions.setting("gcc 8")
    instructions.keep(old, counts(a=1))
    instructions.keep(new, counts(a=2))
    instructions.keep(old, counts(a=3))
    assert [(entry["setting"], entry["counts"]) for entry in instructions.load()] == [
        (new, counts(a=2)),
        (old, counts(a=3)),
    ]


def test_the_compiler_is_read_from_the_library(tmp_path):
    path = tmp_path / "lib.so"
    path.write_bytes(b"\0GCC: (Debian 12.2.0-14) 12.2.0\0GCC: (Debian 12.2.0-14) 12.2.0\0")
    assert instructions.compiler_of(path) == "gcc 12"
    path.write_bytes(b"\0Debian clang version 19.1.7 (3)\0GCC: (GNU) 13.1.0\0")
    assert instructions.compiler_of(path) == "clang 19 and gcc 13"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="does not say"):
        instructions.compiler_of(path)


def test_the_kept_counts_are_of_the_paths_that_there_are():
    from benchmarks.hotpaths import PATHS

    for entry in instructions.load():
        assert list(entry["counts"]) == list(PATHS)


@pytest.mark.parametrize("count", [3, 8, 12])
def test_signed_ranks_agree_with_scipy(count):
    stats = pytest.importorskip("scipy.stats")
    differences = np.random.default_rng(count).normal(0.4, 1, count)
    wanted = stats.wilcoxon(differences, method="exact").pvalue
    assert compare.signed_rank_p(differences) == pytest.approx(wanted)


def test_no_difference_at_all_is_no_evidence():
    assert compare.signed_rank_p(np.zeros(12)) == 1.0


def test_holm_raises_what_was_asked_for_together():
    assert compare.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_difference_beyond_noise_is_told_from_noise():
    generator = np.random.default_rng(7)
    drift = 1 + 0.3 * np.arange(15) / 15  # the machine gets slower; both feel it
    times = {}
    for name, factor in (("slower", 1.1), ("faster", 0.9), ("same", 1.0), ("hardly", 1.005)):
        first = 100 * drift * generator.normal(1, 0.01, 15)
        noise = 0.001 if name == "hardly" else 0.01
        second = factor * first * generator.normal(1, noise, 15)
        times[name] = (list(first), list(second))
    found = compare.judge(times)
    verdicts = {name: entry["verdict"] for name, entry in found.items()}
    assert verdicts == {
        "slower": "B is slower",
        "faster": "B is faster",
        "same": "within noise",
        "hardly": "within noise",  # certain, and too small to be worth a word
    }
    assert 1.08 < found["slower"]["low"] < found["slower"]["ratio"] < found["slower"]["high"] < 1.12


def test_pairs_too_few_to_tell_anything_are_refused(capsys):
    with pytest.raises(SystemExit):
        compare.main(["HEAD", "HEAD", "--pairs", "5"])
    assert "--pairs is from" in capsys.readouterr().err
    least = 2 / 2**compare.FEWEST_PAIRS
    assert least * len(instructions.load()[0]["counts"]) < compare.LEVEL


def test_a_release_is_measured_whole_and_of_a_commit(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        parse(["--release", "--quick"])
    monkeypatch.setattr(environment, "commit", lambda: "0123456789ab+")
    with pytest.raises(SystemExit):
        parse(["--release"])
    assert "commit first" in capsys.readouterr().err
    monkeypatch.setattr(environment, "commit", lambda: "0123456789ab")
    assert parse(["--release"]).out.name == "results"


def test_no_workload_is_begun_after_the_limit(tmp_path, capsys):
    assert measure(["frames", "--limit", "-1", "--out", str(tmp_path)]) == 0
    assert "frames: not begun" in capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["not_begun"] == ["frames"]


def test_the_chart_shows_who_was_measured(tmp_path):
    pytest.importorskip("matplotlib")
    series = [
        {"case": "p50", "peer": peer, "unit": "µs", "values": values, "median": values[1]}
        for peer, values in (("onecopy", [1.0, 2.0, 3.0]), ("a rival", [40.0, 50.0, 60.0]))
    ]
    failed = {"case": "p50", "peer": "a failure", "unit": "µs", "values": [], "median": None}
    document = {
        "environment": environment.record(),
        "runs": 3,
        "seconds": 1.0,
        "workloads": [{"workload": "cold", "series": [*series, failed]}],
    }
    results = tmp_path / "results.json"
    results.write_text(json.dumps(document))

    def drawn(name):
        # In a process of its own: matplotlib keeps descriptors open.
        out = tmp_path / name
        program = [sys.executable, "-m", "benchmarks.chart", str(results), "--out", str(out)]
        subprocess.run(program, check=True, cwd=ROOT)
        return out.read_text()

    first = drawn("first.svg")
    assert "<!-- a rival -->" in first
    assert "<!-- a failure -->" not in first
    assert first.count("<!-- not measured -->") == 3
    assert drawn("second.svg") == first
