"""Another user of the machine: has no access to our pools and directory, and uses its own."""

import os

import pytest
from programs import left, run

import onecopy as oc

pytestmark = pytest.mark.one_in(2)

NOBODY = 65534

# What a child that is another user tries. Everything is imported before, because our own modules
# may lie where only our user can read.
PROGRAM = f"""
import logging, stat, tempfile
from onecopy import cli, default, inspect
from onecopy._core import stale, paths
def forbidden(act, error=PermissionError):
    try: act()
    except error as caught: return str(caught)
    raise AssertionError("it was allowed")
def as_nobody(act):
    child = os.fork()
    if child == 0:
        os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
        act()
        sys.exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
directory = os.environ["ONECOPY_DIR"]
"""

CASES = {
    "a pool of ours, in a directory that it cannot enter": """
        def act():
            forbidden(lambda: oc.Pool.open("ours"))
            forbidden(lambda: oc.Pool("ours", size="16MiB"))
        """,
    "a pool of ours, on the command line": """
        import contextlib, io
        from onecopy.cli import build
        os.chmod(directory, 0o755)
        app = build()
        def fails(command, name):
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                try: app([command, name], prog_name="onecopy")
                except SystemExit as end: assert end.code == 1, end.code
            text = said.getvalue()
            assert text.startswith("onecopy: ") and text.count("\\n") == 1, text
            assert name + ".pool" in text, text
        for command in ("inspect", "holders"):
            fails(command, "none")  # loads what the other user cannot read
        def act():
            for command in ("inspect", "holders"): fails(command, "ours")
        """,
    "a pool of ours, in a directory that it can enter": """
        os.chmod(directory, 0o755)
        def act():
            said = forbidden(lambda: oc.Pool.open("ours"))
            assert "ours.pool" in said, said
            forbidden(lambda: oc.Pool("ours", size="16MiB"))
        """,
    "a pool of its own in our directory": """
        os.chmod(directory, 0o755)
        def act(): forbidden(lambda: oc.Pool.create("theirs", size="16MiB"))
        """,
    "our directory, made writable for it by mistake": """
        os.chmod(directory, 0o777)
        def act():
            forbidden(lambda: oc.Pool.create("theirs", size="16MiB"))
            forbidden(lambda: oc.Pool.open("ours"))
        """,
    "removing what is ours": """
        os.chmod(directory, 0o777)
        def act():
            forbidden(inspect.gc)
            assert os.path.exists(directory + "/ours.pool")
        """,
    "a pool that we let others read": """
        os.chmod(directory, 0o755)
        os.chmod(directory + "/ours.pool", 0o644)
        def act(): forbidden(lambda: oc.Pool.open("ours"))
        """,
    "a pool that was made writable later": """
        os.chmod(directory, 0o755)
        os.chmod(directory + "/ours.pool", 0o666)
        def act(): forbidden(lambda: oc.Pool.open("ours"))
        """,
    "a pool of a memfd": """
        os.chmod(directory, 0o755)
        pools.append(oc.Pool.create("anonymous", size="16MiB", backing="memfd"))
        def act(): forbidden(lambda: oc.Pool.open("anonymous"))
        """,
    "a name that it placed before us": """
        # In a directory that both can write a link or a file could wait for us.
        shared = tempfile.mkdtemp(); os.chmod(shared, 0o1777)
        def place():
            os.mkdir(shared + "/pools"); os.chmod(shared + "/pools", 0o777)
        as_nobody(place)
        os.environ["ONECOPY_DIR"] = shared + "/pools"
        said = forbidden(lambda: oc.Pool.create("mine", size="16MiB"))
        assert "another user" in said, said
        os.environ["ONECOPY_DIR"] = directory
        os.rmdir(shared + "/pools"); os.rmdir(shared)
        def act(): pass
        """,
    "its own default directory": """
        del os.environ["ONECOPY_DIR"]
        def act():
            where = paths.pool_directory()
            assert where.endswith(f"/onecopy-{os.getuid()}"), where
            with oc.Pool.create("mine", size="16MiB") as pool:
                state = os.stat(where)
                assert stat.S_IMODE(state.st_mode) == 0o700 and state.st_uid == os.getuid() != 0
                queue = pool.queue(); queue.put(np.arange(1000)); assert queue.get().sum() == 499500
                assert not pool.member.others_may_write
            gc.collect()
            assert os.listdir(where) == []
            os.rmdir(where)
        """,
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("case", CASES)
def test_another_user(case, pool_directory):
    import textwrap

    home = f"/dev/shm/onecopy-{NOBODY}"  # noqa: S108 - a look
    if "default" in case and os.path.exists(home):  # noqa: PTH110 - short
        pytest.skip(f"{home} is in use")
    # Another process made the pool: a forked child would be a member.
    with oc.Pool.create("ours", size="16MiB") as pool:
        queue = pool.queue()
        program = PROGRAM + "pools = []\n" + textwrap.dedent(CASES[case]) + "as_nobody(act)\n"
        program += "os.chmod(directory, 0o700)\n"
        status, stderr = run(program, holding=False)
        assert (status, stderr) == (0, ""), stderr
        assert left() == ["ours.pool"]
        queue.put(1)
        assert queue.get() == 1
    assert left() == []
