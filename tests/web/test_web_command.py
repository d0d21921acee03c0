"""`onecopy web` as a process of its own, over HTTP; and what it says when it cannot start."""

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from children import LIMIT, eventually

import onecopy as oc
from onecopy.web.server import bound

SCRIPT = Path(sys.executable).with_name("onecopy")


@contextmanager
def served(*arguments, warnings="error"):
    """Run the command: its process, port and token."""
    with subprocess.Popen(
        [SCRIPT, "web", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": warnings},
    ) as process:
        try:
            line = process.stdout.readline()
            port, token = re.fullmatch(
                r"Open http://127\.0\.0\.1:(\d+)/#token=(\S+)\n", line
            ).groups()
            assert process.stdout.readline() == "Ctrl-C ends it.\n"
            yield process, int(port), token
        finally:
            process.kill()


def ask(port, path, token, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("GET", path, headers={"X-Onecopy-Token": token} | headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_serves_until_ctrl_c():
    with oc.Pool.create("factory", size="4MiB") as pool, served() as (process, port, token):
        pool.queue("jobs").put(1)
        status, body = ask(port, "/", token)
        assert status == 200
        assert body.startswith(b"<!doctype html>")
        status, body = ask(port, "/api/pools", token)
        key = json.loads(body)[0]["key"]
        assert json.loads(ask(port, f"/api/pools/{key}", token)[1])["name"] == "factory"
        assert ask(port, "/api/pools", "wrong")[0] == 403
        assert ask(port, "/api/pools", token, Host="evil.example")[0] == 403
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, out, errors) == (130, "", "")


def test_browsers_that_go_away():
    request = "GET /static/uplot/uPlot.iife.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # asyncio warns of connections that are open at its end. By default such warnings are not shown.
    with served(warnings="") as (process, port, token):
        for text in (request[:20], request, request * 20, "\x16\x03\x01nonsense\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as browser:
                browser.sendall(text.encode("latin-1"))
                # Closing now sends a reset.
                browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert ask(port, "/api/pools", token)[0] == 200
        # One that is still connected, and asks nothing, does not keep the server from ending.
        with socket.create_connection(("127.0.0.1", port), LIMIT):
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert "Traceback" not in errors


@pytest.mark.check
def test_sigterm_ends_it_and_leaves_the_pools():
    with oc.Pool.create("cam", size="4MiB") as pool, served("cam") as (process, port, token):
        key = json.loads(ask(port, "/api/pools", token)[1])[0]["key"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        connection.request("POST", f"/api/pools/{key}/join", headers={"X-Onecopy-Token": token})
        assert connection.getresponse().read() == b'{"joined":true}'
        connection.close()
        assert pool.stats().processes == 2
        process.terminate()
        process.communicate(timeout=LIMIT)
        eventually(lambda: pool.stats().processes == 1, "the server to leave")


def failure(*arguments):
    done = subprocess.run(
        [SCRIPT, "web", *arguments], capture_output=True, text=True, check=False, timeout=LIMIT
    )
    assert done.stdout == ""
    assert done.stderr.startswith("onecopy: ")
    assert done.stderr.count("\n") == 1
    return done.returncode, done.stderr


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, text = failure("--port", str(port))
    assert code == 1
    assert f"port {port} of 127.0.0.1 cannot be used: Address already in use" in text
    assert "--port" in text


def test_what_cannot_be_shown():
    code, text = failure("nothing")
    assert code == 1
    assert "there is no pool" in text


def test_a_host_that_is_not_here():
    with pytest.raises(OSError, match="'no such host' is not an address of this machine"):
        bound("no such host", 0)
    with pytest.raises(OSError, match=r"'192\.0\.2\.1' is not an address of this machine.*--host"):
        bound("192.0.2.1", 0)


PATCHED = """
import sys, importlib.util
from onecopy.cli import main
import onecopy.cli.web
{patch}
sys.argv = ["onecopy", "web", *sys.argv[1:]]
main()
"""


def patched(patch, *arguments):
    return subprocess.run(
        [sys.executable, "-c", PATCHED.format(patch=patch), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
@pytest.mark.check
def test_a_missing_package(missing):
    done = patched(
        "found = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name: None if name == {missing!r} else found(name)"
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"onecopy: the page needs {missing}, which is not installed. "
        "Run: pip install 'onecopy[web]'\n"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])  # noqa: S104 - it is refused
def test_other_machines_only_if_it_is_wanted(host):
    code, text = failure("--host", host)
    assert code == 2
    assert "--public" in text


@pytest.mark.check
def test_a_host_that_others_reach_is_named():
    done = patched(
        "import socket, onecopy.web.server as server\n"
        "server.bound = lambda host, port: socket.create_server(('127.0.0.1', 0))\n"
        "server.serve = lambda application, listening: listening.close()",
        "--public",
        "--host",
        "camera-pc",
    )
    assert done.returncode == 0
    assert done.stderr.startswith("onecopy: warning: other machines can reach camera-pc.")
    assert done.stderr.count("\n") == 1
    assert "Open http://camera-pc:" in done.stdout


@pytest.mark.check
def test_open_gives_the_browser_a_private_file(tmp_path):
    done = patched(
        "import webbrowser, stat, os\n"
        "from pathlib import Path\n"
        "from urllib.parse import urlsplit\n"
        "import onecopy.web.server as server\n"
        "server.serve = lambda application, listening: listening.close()\n"
        "def look(uri):\n"
        "    path = Path(urlsplit(uri).path)\n"
        "    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700\n"
        "    print('browser', path.read_text())\n"
        "webbrowser.open = look",
        "--open",
    )
    assert done.returncode == 0
    url = re.search(r"Open (\S+)", done.stdout)[1]
    assert f"url={url}" in done.stdout
    assert "there is no browser" in done.stderr
