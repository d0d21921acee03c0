"""The command `onecopy`, as a process of its own: what it prints, and its exit status."""

import json
import os
import re
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from children import LIMIT

import onecopy as oc
from onecopy._core.sizes import format_size

pytestmark = pytest.mark.one_in(2)

LOOKING = ["inspect", "holders"]
COMMANDS = [
    "demo",
    "ls",
    "inspect",
    "holders",
    "show",
    "why",
    "top",
    "metrics",
    "web",
    "tail",
    "peek",
    "record",
    "replay",
    "gc",
    "doctor",
]
SCRIPT = Path(sys.executable).with_name("onecopy")
ODD_NAMES = [
    "with space",
    "a\nb",
    "[red]x[/red]",
    "日本 é",
    'it\'s "it"',
    "tab\t",
    "\x1b[31m",
    "a,b",
]


def onecopy(*arguments, **environment):
    """Run the installed command; its output goes into pipes."""
    return subprocess.run(
        [SCRIPT, *arguments],
        capture_output=True,
        check=False,
        timeout=LIMIT,
        env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONUTF8": "1"} | environment,
    )


def output(*arguments, code=0, **environment):
    done = onecopy(*arguments, **environment)
    assert done.stderr == b""
    assert done.returncode == code
    return done.stdout.decode()


def failure(*arguments):
    """Return the exit status, and the only line on stderr; there may be no other output."""
    done = onecopy(*arguments)
    text = done.stderr.decode()
    assert done.stdout == b""
    assert text.startswith("onecopy: ")
    assert text.count("\n") == 1
    assert text.endswith("\n")
    return done.returncode, text


def cells(line):
    return re.split(r"  +", line.strip())


def test_the_version():
    assert output("--version") == f"onecopy {oc.__version__}\n"


@pytest.mark.parametrize("arguments", [["ls"], ["demo"], ["--version"], []])
def test_a_plain_install_says_what_to_install(arguments):
    program = (
        "import sys; sys.modules['typer'] = None\n"
        f"sys.argv = ['onecopy', *{arguments!r}]\n"
        "from onecopy.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    if arguments == ["--version"]:
        assert (done.returncode, done.stdout) == (0, f"onecopy {oc.__version__}\n")
        return
    extra = "onecopy[demo]" if arguments == ["demo"] else "onecopy[cli]"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert f"pip install '{extra}'" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    text = output(command, "-h" if command == "ls" else "--help")
    assert "``" not in text
    assert re.search(rf"Usage: onecopy {command}", text)


def test_the_help_says_what_exit_codes_mean():
    text = " ".join(output("--help").split())
    assert "It exits with 0 if there is no problem, 1 if a problem was found" in text
    assert "2 for wrong usage" in text


# ----------------------------------------------------------------------------------------------- ls


def test_ls_and_its_json_say_the_same(pool_directory, pool):
    jobs = pool.queue("jobs")
    jobs.put(np.zeros(1 << 20, "u1"))
    long = "x" * 100
    with oc.Pool.create(long, size="16MiB"):
        (pool_directory / "junk.pool").write_bytes(b"junk")
        head, *lines = output("ls").splitlines()
        records = json.loads(output("ls", "--json"))
        (pool_directory / "junk.pool").unlink()
    columns = cells(head)
    assert columns[:3] == ["name", "kind", "state"]
    # Segments belong to the machine: other tests make and remove some in the meantime.
    lines = [line for line in lines if cells(line)[1] != "segment"]
    records = [record for record in records if record["kind"] != "segment"]
    assert len(lines) == len(records)
    for line, record in zip(lines, records, strict=True):
        for column, cell in zip(columns, cells(line), strict=True):
            value = record[column]
            if value is None:
                assert cell == "-"
            elif column in {"used", "structures", "size"}:
                assert cell == format_size(value)
            else:
                assert cell == str(value)
    assert {(record["name"], record["state"]) for record in records} >= {
        (pool.name, "in_use"),
        (long, "in_use"),
        ("junk", "not_a_pool"),
    }
    mine = next(record for record in records if record["name"] == pool.name)
    stats = pool.stats()
    assert (mine["used"], mine["structures"]) == (stats.used, stats.structure_bytes)
    assert mine["stats"]["committed"] == stats.committed


def test_ls_of_nothing(pool_directory):
    (pool_directory / "x").touch()  # no pool
    records = json.loads(output("ls", "--json"))
    assert [record for record in records if record["kind"] == "pool"] == []
    (pool_directory / "x").unlink()


def test_a_name_of_a_file_that_is_no_text(pool_directory):
    path = os.fsencode(pool_directory) + b"/odd \xff\n.pool"
    Path(os.fsdecode(path)).write_bytes(b"junk")
    for encoding in ("utf-8", "ascii"):
        text = output("ls", PYTHONIOENCODING=encoding)
        assert "odd \\udcff\\n" in text
    assert any(record["name"] == "odd \udcff\n" for record in json.loads(output("ls", "--json")))
    assert "not a pool" in output("doctor", code=1)
    Path(os.fsdecode(path)).unlink()


# ------------------------------------------------------------------------------------------ inspect


def test_inspect_lists_what_is_there(pool):
    jobs = pool.queue("jobs")
    jobs.put(np.zeros(1 << 20, "u1"))
    pool.lock("gate")
    text = output("inspect", pool.name, "--validate")
    lines = [cells(line) for line in text.splitlines()]
    assert ["kind", "name", "keeps", "blocks", "open in"] in lines
    assert ["queue", "jobs", "1.0 MiB", "3", "1"] in lines
    assert ["lock", "gate", "40 B", "1", "0"] in lines
    assert "in 1 block; 16." in text
    assert "structures, in 3 blocks" in text  # a number, but not a size
    assert "Every invariant holds." in text
    view = json.loads(output("inspect", pool.name, "--json"))
    assert [(thing["kind"], thing["name"]) for thing in view["things"]] == [
        ("queue", "jobs"),
        ("lock", "gate"),
    ]
    assert view["problems"] == []


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_of_any_characters(pool, encoding):
    for name in ODD_NAMES:
        pool[name] = 1
        pool.lock(name)
    text = output("inspect", pool.name, PYTHONIOENCODING=encoding)
    shown = [line for line in text.splitlines() if line.startswith(("object", "lock"))]
    assert len(shown) == 2 * len(ODD_NAMES)
    assert "'with space'" in text
    assert "'a\\nb'" in text
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert ("日本" in text) == (encoding == "utf-8")
    view = json.loads(output("inspect", pool.name, "--json", PYTHONIOENCODING=encoding))
    assert view["names"]["object"] == ODD_NAMES


def test_a_long_name_is_not_cut(pool):
    pool["n" * 200] = 1
    assert "n" * 200 in output("inspect", pool.name)


def test_a_path_of_any_characters(tmp_path):
    directory = tmp_path / "my [files] é"
    directory.mkdir()
    path = str(directory / "a pool")
    with oc.Pool.create(backing=path, size="16MiB") as pool:
        pool["a"] = 1
        for command in ("inspect", "holders"):
            assert json.loads(output(command, path, "--json"))
            output(command, path)


def test_broken_invariants_are_told_and_fail(pool, pool_directory):
    pool["a"] = 1
    path = Path(pool.member.path)
    with path.open("r+b") as file:  # header.used
        file.seek(3 * 64 + 24)
        file.write(struct.pack("Q", 77))
    text = output("inspect", pool.name, "--validate", code=1)
    assert "Broken invariants:\n  " in text
    view = json.loads(output("inspect", pool.name, "--validate", "--json", code=1))
    assert (view["checked"], view["problems"] != []) == (True, True)
    view = json.loads(output("inspect", pool.name, "--json"))  # it does not join the pool
    assert (view["checked"], view["problems"]) == (False, [])
    assert "used is 77" in output("doctor", code=1)
    report = json.loads(output("doctor", "--json", code=1))
    assert report["sound"] is False
    assert [entry["name"] for entry in report["pools"] if entry["problems"]] == [pool.name]


# ---------------------------------------------------------------------------------- what goes wrong


def made_by_another_version(path):
    with path.open("r+b") as file:
        file.seek(16)
        file.write(struct.pack("I", 999))


def with_a_damaged_header(path):
    with path.open("r+b") as file:
        file.seek(40)
        file.write(struct.pack("Q", 1 << 40))


@pytest.mark.one_in(3)
@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (made_by_another_version, "another memory layout"),
        (with_a_damaged_header, "no sound pool"),
        (lambda path: path.write_bytes(b"junk" * 2000), "no pool of onecopy"),
        (Path.unlink, "no pool at"),
    ],
)
def test_a_pool_that_cannot_be_looked_at(tmp_path, command, spoil, text):
    path = tmp_path / "pool"
    oc.Pool.create(backing=str(path), size="16MiB").close()
    spoil(path)
    code, message = failure(command, str(path))
    assert code == 1
    assert text in message


@pytest.mark.one_in(3)
@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize(
    ("name", "code"),
    [("none", 1), ("my pool", 2), ("", 2), ("a\nb", 2), ("/dev/", 2), ("/", 2), ("x" * 101, 2),
     ("/nowhere/at all", 1), ("é", 2), ("/nowhere\nb", 1)],
)  # fmt: skip
def test_a_name_that_stands_for_no_pool(command, name, code):
    assert failure(command, name)[0] == code


def test_a_missing_pool_says_where_to_look():
    assert "`onecopy ls` lists" in failure("inspect", "none")[1]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "arguments",
    [["ls"], ["ls", "--json"], ["gc"], ["inspect", "a"], ["holders", "a"]],
    ids=" ".join,
)
def test_a_directory_that_others_may_write(pool_directory, arguments):
    pool_directory.chmod(0o777)
    code, message = failure(*arguments)
    assert code == 1
    assert str(pool_directory) in message
    text = output("doctor", code=1)
    assert str(pool_directory) in text
    assert json.loads(output("doctor", "--json", code=1))["problems"] != []
    pool_directory.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("arguments", [["frob"], ["ls", "--frob"], ["inspect"], ["gc", "x", "y"]])
def test_wrong_usage(arguments):
    done = onecopy(*arguments)
    assert done.returncode == 2
    assert b"Usage: onecopy" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["ls", "doctor", "--help"])
def test_a_reader_that_goes_is_no_traceback(pool, command):
    process = subprocess.Popen([SCRIPT, command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(LIMIT) in {0, 1, 141}


def test_a_full_disk_is_one_line(pool):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [SCRIPT, "ls"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=LIMIT
        )
    assert done.returncode == 1
    assert done.stderr == b"onecopy: No space left on device\n"


@pytest.mark.parametrize("closed", [0, 1, 2])
@pytest.mark.parametrize("command", ["ls", "--help", "top"])
def test_a_closed_stream_is_no_traceback(pool, tmp_path, command, closed):
    """As of a daemon: ``onecopy ls >&-``."""
    files = [tmp_path / "stdin", tmp_path / "stdout", tmp_path / "stderr"]
    files[0].touch()
    redirections = " ".join(
        f"{fd}{'<' if fd == 0 else '>'}{'&-' if fd == closed else files[fd]}" for fd in range(3)
    )
    shell = ["sh", "-c", f'"$0" "$1" {redirections}', SCRIPT, command]
    assert subprocess.run(shell, check=False, timeout=LIMIT).returncode == 0
    assert closed == 2 or not files[2].read_text()
    assert closed == 1 or files[1].read_text()


# --------------------------------------------------------------------------------------- gc, doctor


def die():
    pool = oc.Pool.create("gone", size="16MiB")
    pool["a"] = 1
    os._exit(3)


def test_gc_tells_what_it_removes(pool_directory, start):
    assert start("spawn", die).wait() == 3
    path = str(pool_directory / "gone.pool")
    expected = {"name": "gone", "kind": "pool", "state": "stale", "path": path}
    assert expected in json.loads(output("gc", "--dry-run", "--json"))
    assert f"would remove {path}\n" in output("gc", "--dry-run")
    assert expected | {"state": "removed"} in json.loads(output("gc", "--json"))
    assert not [found for found in json.loads(output("gc", "--json")) if found["kind"] == "pool"]


def test_doctor_of_a_sound_machine(pool):
    text = output("doctor")
    assert f"onecopy {oc.__version__} on Python" in text
    assert f"{pool.name}: in_use, sound" in text
    report = json.loads(output("doctor", "--json"))
    assert report["sound"] is True
    assert report["numpy"] == np.__version__
    huge = report["huge_pages"]
    assert set(huge) == {"mount", "setting", "files", "memfds"}
    assert f"shmem_enabled: {huge['setting']}" in text or huge["setting"] is None
    (entry,) = report["pools"]
    assert (entry["name"], entry["problems"], entry["unchecked"]) == (pool.name, [], [])


# --------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize("command", ["inspect", "holders"])
def test_pool_names_complete(command):
    pools = [oc.Pool.create(name, size="4MiB") for name in ("camera-1", "camera-2", "other")]
    text = output(
        _ONECOPY_COMPLETE="complete_bash",
        COMP_WORDS=f"onecopy {command} cam",
        COMP_CWORD="2",
    )
    for pool in pools:
        pool.close()
    assert text.split() == ["camera-1", "camera-2"]


def test_no_names_complete_where_none_can_be_listed(pool_directory):
    pool_directory.chmod(0o777)
    done = onecopy(
        _ONECOPY_COMPLETE="complete_bash", COMP_WORDS="onecopy inspect cam", COMP_CWORD="2"
    )
    assert (done.stdout.strip(), done.stderr) == (b"", b"")
    pool_directory.chmod(stat.S_IRWXU)


def test_completion_can_be_installed(tmp_path):
    environment = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "_ONECOPY_COMPLETE" in output("--show-completion", "bash", **environment)
    output("--install-completion", "bash", **environment)
    installed = tmp_path / ".bash_completions" / "onecopy.sh"
    assert "_ONECOPY_COMPLETE" in installed.read_text()
    assert str(installed) in (tmp_path / ".bashrc").read_text()
