"""examples/manager: a server, a master and clients, as processes of their own."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import eventually

from onecopy.multiprocessing.managers import BaseManager

FOLDER = Path(__file__).parents[2] / "examples" / "manager"
VARIABLE = "ONECOPY_MANAGER_KEY"
DEADLINE = 60  # seconds: a watchdog, not a measurement


class Role:
    """One of the scripts, running."""

    def __init__(self, script, *arguments, directory, key=None):
        environment = {**os.environ, "ONECOPY_DIR": str(directory)}
        environment.pop(VARIABLE, None)
        if key is not None:
            environment[VARIABLE] = key
        self._process = subprocess.Popen(
            [sys.executable, FOLDER / script, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def line(self):
        """Wait for a line."""
        return self._process.stdout.readline().rstrip("\n")

    def send(self, number):
        self._process.send_signal(number)

    def end(self):
        """Return its status, the rest of its output, and its error output."""
        try:
            out, err = self._process.communicate(timeout=DEADLINE)
        finally:
            self.kill()
        return self._process.returncode, out.splitlines(), err

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()


@pytest.fixture
def play(pool_directory):
    """Start a role, for example ``play("client.py", 50000, "--work", 1)``."""
    roles = []

    def play(script, port, *arguments, directory=pool_directory, **options):
        role = Role(script, "--port", port, *arguments, directory=directory, **options)
        roles.append(role)
        return roles[-1]

    yield play
    for role in roles:
        role.kill()


def serving(play, *arguments, **options):
    """A server, with its `port`."""
    server = play("server.py", 0, *arguments, **options)
    said = server.line()
    assert said.startswith("server: listening on 127.0.0.1, port ")
    server.port = int(said.rpartition(" ")[2])
    return server


@pytest.fixture
def server(play):
    return serving(play)


class Manager(BaseManager):
    """What a role has, for tests that take the part of a role themselves."""


for name in ("get_tasks", "get_results", "get_runs"):
    Manager.register(name)


def ends_cleanly(server):
    server.send(signal.SIGINT)
    assert server.end() == (0, ["server: ended, 0 tasks and 0 results left"], "")


def waiting(play, server, *arguments, **options):
    client = play("client.py", server.port, *arguments, **options)
    assert client.line() == f"client {client.pid}: waiting for tasks"
    return client


def test_clients_take_what_a_master_puts(play, server):
    clients = [waiting(play, server) for _ in range(2)]
    status, said, complained = play("master.py", server.port, "--tasks", 7).end()
    assert (status, complained) == (0, "")
    assert said[-1] == "master: 7 tasks answered, 0 of them wrongly"
    assert sum("'mean': " in line for line in said) == 3
    assert sum("'answer': 'NAME-" in line for line in said) == 4
    done = 0
    for client in clients:
        status, said, complained = client.end()
        assert (status, complained) == (0, "")
        done += int(said[-1].split()[-4])
    assert done == 7
    ends_cleanly(server)


def test_a_client_that_sees_no_pool_is_sent_the_bytes(play, server, tmp_path):
    waiting(play, server, directory=tmp_path)
    status, said, complained = play("master.py", server.port, "--tasks", 2).end()
    assert (status, complained) == (0, "")
    assert sum("'mean': " in line for line in said) == 1
    assert said[-1] == "master: 2 tasks answered, 0 of them wrongly"
    ends_cleanly(server)


def test_when_a_client_is_killed_another_one_does_its_task(play, server):
    victim = waiting(play, server, "--work", 3600)
    master = play("master.py", server.port, "--tasks", 4, "--timeout", 1)
    assert victim.line().startswith(f"client {victim.pid}: took task ")
    victim.kill()
    client = waiting(play, server)
    status, said, complained = master.end()
    assert (status, complained) == (0, "")
    assert said[-1] == "master: 4 tasks answered, 0 of them wrongly"
    assert any("tasks again" in line for line in said)
    status, said, complained = client.end()
    assert (status, complained) == (0, "")
    server.send(signal.SIGINT)
    status, _, complained = server.end()
    assert (status, complained) == (0, "")


@pytest.mark.check
def test_a_client_that_others_left_no_task_ends_with_the_run(play, server):
    slow, quick = waiting(play, server), waiting(play, server)
    slow.send(signal.SIGSTOP)
    master = play("master.py", server.port, "--tasks", 4, "--timeout", 1)
    status, said, complained = master.end()
    assert (status, complained) == (0, "")
    assert said[-1] == "master: 4 tasks answered, 0 of them wrongly"
    slow.send(signal.SIGCONT)
    assert slow.end() == (0, [f"client {slow.pid}: all is done, 0 tasks by me"], "")
    assert quick.end()[0] == 0
    ends_cleanly(server)


@pytest.mark.check
def test_what_a_killed_master_left_is_not_taken_for_the_next_ones(play, server):
    client = waiting(play, server)
    first = play("master.py", server.port, "--tasks", 40)
    assert first.line().startswith("master: {")  # some have results, some are on their way
    first.kill()
    status, said, complained = play("master.py", server.port, "--name", "other").end()
    assert (status, complained) == (0, "")
    assert said[-1] == "master: 6 tasks answered, 0 of them wrongly"
    assert sum("'answer': 'OTHER-" in line for line in said) == 3
    status, said, complained = client.end()
    assert (status, complained) == (0, "")
    server.send(signal.SIGINT)
    assert server.end()[0] == 0


@pytest.mark.check
def test_what_still_comes_in_from_an_earlier_run_is_dropped(play, server):
    """The result of a client after much work, for a task that another client was running."""
    manager = Manager(("127.0.0.1", server.port), b"onecopy-demo")
    manager.connect()
    tasks, results, runs = manager.get_tasks(), manager.get_results(), manager.get_runs()
    earlier = runs.begin()
    master = play("master.py", server.port, "--tasks", 3)
    eventually(lambda: runs.current() != earlier and tasks.qsize() == 3, "the next master")
    results.put({"run": earlier, "number": 0, "answer": "NAME-7"})
    tasks.put({"run": earlier, "number": 1, "name": "name-7"})
    runs.end(earlier)  # nor does it end the current run
    client = waiting(play, server)
    status, said, complained = master.end()
    assert (status, complained) == (0, "")
    assert said[-1] == "master: 3 tasks answered, 0 of them wrongly"
    assert client.end()[1][-1] == f"client {client.pid}: all is done, 3 tasks by me"
    ends_cleanly(server)


@pytest.mark.check
def test_a_second_master_ends_the_first(play, server):
    manager = Manager(("127.0.0.1", server.port), b"onecopy-demo")
    manager.connect()
    runs = manager.get_runs()
    first = play("master.py", server.port, "--timeout", 0.1)
    eventually(lambda: runs.current() is not None, "a master")
    runs.begin()
    status, _, complained = first.end()
    assert (status, complained) == (1, "master: another one has begun\n")


@pytest.mark.check
def test_a_client_that_comes_after_a_run_waits_for_the_next_one(play, server):
    for _ in range(2):
        client = waiting(play, server)
        status, said, _ = play("master.py", server.port, "--tasks", 2).end()
        assert (status, said[-1]) == (0, "master: 2 tasks answered, 0 of them wrongly")
        assert client.end()[1][-1].endswith("all is done, 2 tasks by me")
    ends_cleanly(server)


@pytest.mark.check
def test_a_client_that_stays_works_for_one_master_after_the_other(play, server):
    client = waiting(play, server, "--stay")
    for _ in range(2):
        status, said, _ = play("master.py", server.port, "--tasks", 2).end()
        assert (status, said[-1]) == (0, "master: 2 tasks answered, 0 of them wrongly")
    client.send(signal.SIGINT)
    status, said, complained = client.end()
    assert (status, said[-1], complained) == (130, f"client {client.pid}: stopped", "")
    ends_cleanly(server)


def test_the_key_comes_from_the_environment_or_a_file(play, tmp_path):
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text("of ours\n")
    server = serving(play, key="of ours")
    client = waiting(play, server, "--key-file", file)
    status, _, complained = play("master.py", server.port).end()
    assert status == 1
    assert "master: digest" in complained
    status, _, complained = play("master.py", server.port, "--tasks", 1, key="of ours").end()
    assert (status, complained) == (0, "")
    assert client.end()[0] == 0
    ends_cleanly(server)


@pytest.mark.parametrize(
    ("mode", "text", "says"), [(0o644, "k", "chmod 600"), (0o600, "\n", "is empty")]
)
def test_a_key_that_is_no_secret_is_refused(play, tmp_path, mode, text, says):
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(mode)
    status, _, complained = play("server.py", 0, "--key-file", file).end()
    assert status == 1
    assert says in complained
    assert "Traceback" not in complained


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("192.0.2.1", True)]
)
def test_the_key_that_everybody_knows_is_for_one_machine(monkeypatch, capsys, host, warned):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delenv(VARIABLE, raising=False)
    common = importlib.import_module("common")
    try:
        common.key_of(common.parser("").parse_args(["--host", host]))
        assert ("With the key, anyone can run" in capsys.readouterr().err) is warned
        monkeypatch.setenv(VARIABLE, "of ours")
        assert common.key_of(common.parser("").parse_args(["--host", host])) == b"of ours"
        assert capsys.readouterr().err == ""
    finally:
        del sys.modules["common"]


def test_each_ends_by_ctrl_c(play, server):
    client = waiting(play, server, "--work", 3600)
    master = play("master.py", server.port, "--tasks", 1)
    # After this line the master waits, or will wait soon.
    assert client.line() == f"client {client.pid}: took task 0"
    for role, word in ((client, f"client {client.pid}"), (master, "master")):
        role.send(signal.SIGINT)
        assert role.end() == (130, [f"{word}: stopped"], "")
    ends_cleanly(server)


def test_when_the_server_ends_the_others_say_so(play, server):
    client = waiting(play, server)
    server.send(signal.SIGKILL)
    status, said, complained = client.end()
    assert (status, said) == (1, [])
    assert "has ended: it was shut down, or killed" in complained
    status, _, complained = play("master.py", server.port).end()
    assert status == 1
    assert "Connection refused" in complained
