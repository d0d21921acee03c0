"""The command `onecopy metrics`, as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import typer
from children import LIMIT

import onecopy as oc
from onecopy.cli import metrics as command

pytest.importorskip("prometheus_client")
from prometheus_client.parser import text_string_to_metric_families

SCRIPT = Path(sys.executable).with_name("onecopy")


def failure(capsys, *arguments, **options):
    with pytest.raises(typer.Exit) as ended:
        command.metrics(*arguments, **options)
    text, errors = capsys.readouterr()
    assert text == ""
    assert errors.startswith("onecopy: ")
    assert errors.count("\n") == 1
    return ended.value.exit_code, errors


def test_it_serves_until_ctrl_c():
    process = subprocess.Popen(
        [SCRIPT, "metrics", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )
    try:
        line = process.stdout.readline()
        address = re.fullmatch(r"serving (http://127\.0\.0\.1:\d+/metrics); Ctrl-C ends it\n", line)
        assert address, line + process.stderr.read()
        with oc.Pool.create("factory", size="4MiB") as pool:
            pool.queue("jobs").put(1)
            for _ in range(2):
                with urllib.request.urlopen(address[1], timeout=LIMIT) as answer:  # noqa: S310 - our own
                    assert answer.headers["Content-Type"].startswith("text/plain")
                    families = list(text_string_to_metric_families(answer.read().decode()))
        found = {sample.name: sample.value for family in families for sample in family.samples}
        assert found["onecopy_pool_up"] == 1
        assert found["onecopy_queue_put_total"] == 1
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, rest, errors) == (130, "", "")
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_another_program_has(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, text = failure(capsys, port=other.getsockname()[1])
    assert code == 1
    assert "another program listens there" in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104 - it is refused
def test_other_machines_only_if_it_is_wanted(capsys, host):
    code, text = failure(capsys, host=host, port=0)
    assert code == 2
    assert "--public" in text


def test_an_address_that_is_not_of_this_machine(capsys):
    code, text = failure(capsys, host="192.0.2.1", port=0, public=True)
    assert code == 1
    assert "cannot listen at 192.0.2.1:0" in text


def test_a_wrong_name(capsys):
    code, text = failure(capsys, ["a b"], port=0)
    assert code == 2
    assert "cannot name a pool" in text


def test_without_prometheus_client_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, text = failure(capsys)
    assert code == 1
    assert "pip install 'onecopy[metrics]'" in text
