"""However a process ends, with objects of all kinds: no output, no file, and its exit status."""

import signal

import pytest
from programs import STRICT, Running, left, run

import onecopy as oc
from onecopy import inspect

pytestmark = pytest.mark.one_in(2)

ENDS = {
    "by itself": ("", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "sys.exit with a text": ("sys.exit('that was it')", 1, "that was it\n"),
    "an exception": ("raise LookupError('lost')", 1, "LookupError: lost\n"),
    "an exception in a thread": (
        """
        def fail():
            mine = pool.zeros(1000)
            raise LookupError('lost')
        thread = threading.Thread(target=fail); thread.start(); thread.join()
        """,
        0,
        "LookupError: lost\n",
    ),
    "closed before": ("queue.close(); stream.close(); pool.close(); sys.exit(4)", 4, ""),
    "only the pool is closed": ("pool.close()", 0, ""),
    "unlinked before": ("pool.unlink()", 0, ""),
    "SIGTERM with a handler": (
        """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        os.kill(os.getpid(), signal.SIGTERM)
        """,
        7,
        "",
    ),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT, "KeyboardInterrupt\n"),
    "in the middle of a with": (
        """
        second = oc.Pool.create("second", size="16MiB")
        with second, second.frames(None, 10, "u1", 2).lend():
            sys.exit(5)
        """,
        5,
        "",
    ),
}


FLAGS = [pytest.param((), marks=pytest.mark.slow, id="plain"), pytest.param(STRICT, id="strict")]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("how", ENDS)
def test_an_end(how, flags):
    text, status, complaint = ENDS[how]
    got, stderr = run(text, flags=flags)
    assert got == status, stderr
    if complaint:
        assert stderr.endswith(complaint)
        assert "Exception ignored" not in stderr
        assert "Warning" not in stderr
    else:
        assert stderr == ""
    assert left() == []


KILLS = {
    "os._exit": ("os._exit(6)", 6),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    "abort": ("os.abort()", -signal.SIGABRT),
    "exec": ("os.execv('/bin/sh', ['sh', '-c', 'exit 9'])", 9),
}


@pytest.mark.parametrize("how", KILLS)
@pytest.mark.parametrize("then", ["gc", "open", "create"])
def test_an_end_without_a_chance_to_tidy_up(how, then):
    text, status = KILLS[how]
    assert run(text, flags=())[0] == status
    assert "theirs.pool" in left()
    match then:
        case "gc":
            assert {info.name for info in inspect.gc()} >= {"theirs"}
            assert left() == []
        case "open":
            with pytest.raises(oc.PoolNotFound):
                oc.Pool.open("theirs")
            assert "theirs.pool" not in left()
        case "create":
            with oc.Pool.create("theirs", size="16MiB") as pool:
                assert len(pool) == 0
                assert left() == ["theirs.pool"]


@pytest.mark.parametrize("how", ["by itself", "SIGKILL"])
def test_a_persistent_pool_stays(how):
    text, status = {"by itself": ("", 0), **KILLS}[how]
    program = """
    pool = oc.Pool.create("stays", size="16MiB", persistent=True)
    pool["a"] = np.arange(1000)
    """
    assert run(f"{program}{text}", flags=(), holding=False)[0] == status
    assert inspect.gc() == []
    assert left() == ["stays.pool"]
    with oc.Pool.open("stays") as pool:
        assert pool["a"].sum() == 499_500
        pool.collect()
        assert pool.stats().processes == 1
        assert pool.validate() == []
        pool.unlink()


@pytest.mark.parametrize("how", ["by itself", "SIGKILL"])
def test_a_pool_in_a_file_stays(how, tmp_path):
    text, status = {"by itself": ("", 0), **KILLS}[how]
    path = tmp_path / "table.pool"
    program = f"""
    pool = oc.Pool.create(backing={str(path)!r}, size="16MiB")
    pool["a"] = np.arange(1000)
    """
    assert run(f"{program}{text}", flags=(), holding=False)[0] == status
    assert inspect.gc() == []
    with oc.Pool.open(path) as pool:
        assert pool["a"].sum() == 499_500
        pool.collect()
        assert pool.stats().processes == 1
        assert pool.validate() == []


def test_one_that_waits_ends_by_SIGTERM_as_others_do():  # noqa: N802 - its name
    program = Running("print('ready', flush=True); bounded.put(1); bounded.put(2)")
    program.says("ready")
    program.is_asleep()
    program.signal(signal.SIGTERM)
    assert program.end() == (-signal.SIGTERM, "")
    assert {info.name for info in inspect.gc()} >= {"theirs"}
    assert left() == []
