"""The example `web`: an asyncio service, asked by real HTTP requests."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from children import LIMIT, eventually
from services import running, workers

import onecopy as oc

cv2 = pytest.importorskip("cv2")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


@pytest.fixture
def service():
    """The service, running, with its `port`."""
    with running("web") as process:
        yield process


def ask(service, data):
    url = f"http://127.0.0.1:{service.port}/pictures"
    with urllib.request.urlopen(url, data, LIMIT) as response:
        return json.load(response)


def picture(height, width, color=(10, 200, 30)):
    """A picture of one color, as the bytes of a PNG file."""
    pixels = np.empty((height, width, 3), "u1")
    pixels[:] = color[::-1]  # OpenCV: blue first
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_pictures_that_come_at_once(service):
    answers = {}

    def send(width):
        answers[width] = ask(service, picture(20, width))

    clients = [threading.Thread(target=send, args=(width,)) for width in range(30, 42)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(LIMIT)
    pids = workers(service)
    assert sorted(answers) == list(range(30, 42))
    for width, answer in answers.items():
        assert answer.pop("pid") in pids
        assert answer == {"size": [width, 20], "color": [10, 200, 30], "sharpness": 0.0}


@pytest.mark.parametrize(("data", "code"), [(b"", 413), (b"no picture", 400)])
def test_what_is_no_picture_is_an_error(service, data, code):
    with pytest.raises(urllib.error.HTTPError) as raised:
        ask(service, data)
    with raised.value as response:
        assert response.code == code
        assert json.load(response)["error"]
    assert ask(service, picture(8, 9))["size"] == [9, 8]


def test_a_picture_whose_worker_is_killed_is_answered(service):
    first = ask(service, picture(5, 6))["pid"]
    answers = []
    pids = workers(service)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)  # none of them can answer
    client = threading.Thread(target=lambda: answers.append(ask(service, picture(7, 8))))
    client.start()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    client.join(LIMIT)
    assert answers[0]["size"] == [8, 7]
    assert first in pids
    assert answers[0]["pid"] not in pids
    eventually(lambda: answers[0]["pid"] in workers(service), "the new worker")


def test_a_client_that_goes_away_leaves_nothing(service, pool_directory):
    ask(service, picture(5, 6))
    (path,) = pool_directory.glob("*.pool")
    with oc.observe(path) as observer:
        before = observer.snapshot().used
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(
                b"POST /pictures HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 9
            )
            eventually(lambda: observer.snapshot().used >= before + 4_000_000, "the upload")
        eventually(lambda: observer.snapshot().used <= before, "the memory is free again")
    assert ask(service, picture(8, 9))["size"] == [9, 8]
