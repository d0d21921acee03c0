"""Pictures of `onecopy web`: which arrays are pictures, their PNG files, and joining for them."""

import base64
import dataclasses
import json
import subprocess
import sys
import threading
from typing import NamedTuple

import numpy as np
import pytest
from children import eventually

import onecopy as oc
from onecopy._core.pictures import find, png, small
from onecopy._core.showing import described
from onecopy.web.server import app
from onecopy.web.visiting import NotJoinedError, Visits
from onecopy.web.watching import key_of

cv2 = pytest.importorskip("cv2")
pytest.importorskip("httpx2")
from starlette.testclient import TestClient  # noqa: E402 - it needs httpx2

TOKEN = "t" * 32


def decoded(data):
    """Read a PNG file by another program: height, width, channels, in the order RGB."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    if found.ndim == 2:
        return found[:, :, np.newaxis]
    return found[:, :, [2, 1, 0, 3][: found.shape[2]]]


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(7).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("shape", [(8, 8), (33, 17), (1, 300), (480, 5)])
def test_png_files_are_read_by_others(shape, channels):
    pixels = noise(*shape, channels)
    assert (decoded(png(pixels)) == pixels).all()


def test_small_pictures_are_exact():
    picture = noise(20, 30, 3)
    assert (small(picture).pixels == picture).all()
    assert (small(picture, bgr=True).pixels == picture[:, :, ::-1]).all()
    assert (small(picture.transpose(2, 0, 1)).pixels == picture).all()
    assert (small(picture[:, :, 0]).pixels[:, :, 0] == picture[:, :, 0]).all()
    assert small(picture).text == f"uint8, shape (20, 30, 3), {picture.min()} to {picture.max()}"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1080, 1920, 3), (270, 480, 3)),
        ((4000, 8), (480, 1, 1)),
        ((480, 480), (480, 480, 1)),
        ((481, 481), (480, 480, 1)),
        ((3, 2000, 1000), (480, 240, 3)),
    ],
)
def test_large_pictures_are_made_smaller(shape, expected):
    picture = np.zeros(shape, np.uint8)
    found = small(picture)
    assert found.pixels.shape == expected
    assert not np.shares_memory(found.pixels, picture) or expected[:2] == shape[:2]
    assert ("shown as" in found.text) == (shape[:2] != expected[:2])


@pytest.mark.parametrize(
    ("array", "least", "most", "says"),
    [
        (np.linspace(-5, 5, 100).reshape(10, 10), 0, 255, "scaled from -5 to 5"),
        (np.full((10, 10), np.nan), 0, 0, "no finite element"),
        (np.array([[np.nan, np.inf, 1.0, 3.0] * 2] * 8), 0, 255, "scaled from 1 to 3"),
        (np.full((9, 9), 7, np.int64), 0, 0, "scaled from 7 to 7"),
        (np.eye(8, dtype=bool), 0, 255, "False to True"),
        (np.eye(8, dtype=">u2") * 65535, 0, 255, "scaled from 0 to 65535"),
        (np.eye(8, dtype=np.float16), 0, 255, "scaled from 0 to 1"),
        (np.where(np.eye(8) > 0, 1.7e308, -1.7e308), 0, 255, "scaled from -1.7e+308 to 1.7e+308"),
    ],
)
def test_other_types_are_scaled(array, least, most, says):
    found = small(array)
    assert (found.pixels.min(), found.pixels.max()) == (least, most)
    assert says in found.text


@dataclasses.dataclass
class Shot:
    number: int
    image: np.ndarray


class Pair(NamedTuple):
    number: int
    image: np.ndarray


def test_the_picture_in_a_message():
    picture = noise(20, 30)
    for message in (
        picture,
        {"id": 1, "image": picture},
        [np.zeros(3), picture],
        Shot(1, picture),
        Pair(1, picture),
        {"deep": [{"er": picture}]},
    ):
        assert find(message) is picture or (find(message) == picture).all()


@pytest.mark.parametrize(
    "message",
    [
        None,
        5,
        "text",
        np.zeros(100),
        np.zeros((3, 3)),
        np.zeros((20, 20, 5)),
        np.zeros((20, 20), complex),
        np.array([["text"] * 20] * 20),
        np.zeros((20, 20), "M8[s]"),
        np.zeros((0, 20)),
        Shot,
        {"a": {"b": {"c": {"d": np.zeros((20, 20))}}}},
    ],
)
def test_what_is_no_picture(message):
    assert find(message) is None
    assert isinstance(described(message), str)


def test_a_large_array_is_not_read_for_its_range():
    assert described(np.zeros((1 << 24, 8), np.uint8)) == "uint8 (16777216, 8)"


# ---- joining


@pytest.fixture
def client():
    headers = {"X-Onecopy-Token": TOKEN}
    application = app(token=TOKEN, interval=0.0)
    with TestClient(application, base_url="http://127.0.0.1", headers=headers) as client:
        yield client


MEMBER = """
import os, sys
import numpy as np
import onecopy as oc
pool = oc.Pool.create("cam", size="16MiB")
live = pool.stream("live")
lossless = pool.stream("all", depth=2, policy="lossless")
class Bad:
    def __reduce__(self):
        return (exec, ("raise RuntimeError('<b>no</b>')",))
objects = pool.stream("objects")
cam = pool.frames("cam", (40, 60), "u1", count=3)
held, sent = [], pool.queue("sent")
print("ready", flush=True)
for line in sys.stdin:
    if line == "live\\n":
        live.publish(np.full((40, 60, 3), 200, np.uint8))
    if line == "bad\\n":
        objects.publish(Bad())
    if line == "many\\n":
        for number in range(50):
            lossless.publish(number)
    word, _, value = line.strip().partition(" ")
    if word in {"acquire", "send"}:
        frame = cam.acquire()
        frame[:] = int(value)
        held.append(frame) if word == "acquire" else sent.put(frame)
        del frame
    if word == "write":
        held[-1][:] = int(value)
    if word == "release":
        held.pop()
    if word == "all":
        held = [cam.acquire(0 if value else 60) for _ in range(3)]
        held.clear()
    if word == "numbers":
        numbers = pool.frames("numbers", (5,), "f4", count=1)
        held = [numbers.acquire()]
        held[0][:] = 7
    if word == "another":
        held.clear()
        cam.close()
        cam = pool.frames("cam", (9, 9), "u1", count=1)
        held = [cam.acquire()]
        held[0][:] = 5
    print(pool.stats().processes, flush=True)
"""


@pytest.fixture
def tell():
    """A process that has a pool: it gets orders, and answers how many members there are."""
    with subprocess.Popen(
        [sys.executable, "-c", MEMBER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:

        def tell(order):
            child.stdin.write(f"{order}\n")
            child.stdin.flush()
            return int(child.stdout.readline())

        assert child.stdout.readline() == "ready\n"
        yield tell
        child.stdin.close()
        child.wait(60)


def test_the_newest_picture(client, tell):
    (key,) = [each["key"] for each in client.get("/api/pools").json()]
    path = f"/api/pools/{key}/streams/{key_of('live')}"
    assert "not a member" in client.get(path).json()["problem"]
    assert client.get(path).status_code == 409
    assert tell("nothing") == 1
    assert client.post(f"/api/pools/{key}/join").json() == {"joined": True}
    assert client.post(f"/api/pools/{key}/join").json() == {"joined": True}
    assert tell("nothing") == 2
    assert client.get(path).json()["text"] == "nothing was published yet"
    tell("live")
    answer = client.get(f"{path}?after=0")
    found = answer.json()
    assert float(answer.headers["x-onecopy-every"]) >= 1
    assert (found["width"], found["height"], found["published"]) == (60, 40, 1)
    assert (decoded(base64.b64decode(found["png"])) == 200).all()
    assert client.get(f"{path}?after=1").json() == {"published": 1, "same": True, "png": ""}
    assert client.get(f"{path}?after=x&bgr=1").json()["png"]
    missing = client.get(f"/api/pools/{key}/streams/unknown")
    assert missing.status_code == 404
    assert "no such stream" in missing.json()["problem"]
    assert tell("many") == 2  # a lossless stream does not wait for the page
    numbers = client.get(f"/api/pools/{key}/streams/{key_of('all')}").json()
    assert (numbers["text"], numbers["published"]) == ("49", 50)
    assert client.post(f"/api/pools/{key}/leave").json() == {"joined": False}
    assert tell("nothing") == 1


@pytest.fixture
def frames(client, tell):
    """A function that asks for the picture of a set of frames, of a pool that was joined."""
    (key,) = [each["key"] for each in client.get("/api/pools").json()]
    path = f"/api/pools/{key}/frames/{key_of('cam')}"
    assert client.get(path).status_code == 409
    client.post(f"/api/pools/{key}/join")

    def ask(after=-1, path=path):
        answer = client.get(f"{path}?after={after}")
        assert float(answer.headers["x-onecopy-every"]) >= 1
        found = answer.json()
        if found["png"]:
            found["grey"] = set(decoded(base64.b64decode(found["png"])).flat)
        return found

    ask.path = path
    return ask


def test_a_frame_that_a_process_has(frames, tell):
    found = frames()
    assert (found["published"], found["png"]) == (0, "")
    assert found["text"] == "no frame is out: all of them are free"
    assert frames(0)["text"] == found["text"]
    tell("acquire 10")
    found = frames()
    assert (found["published"], found["width"], found["height"]) == (1, 60, 40)
    assert found["grey"] == {10}
    assert "A frame of process" in found["text"]
    assert "perhaps half written: uint8, shape (40, 60), 10 to 10" in found["text"]
    tell("acquire 20")
    assert (frames(1)["published"], frames(1)["grey"]) == (2, {20})
    tell("write 30")  # the process writes the frame that it has again
    assert (frames(2)["published"], frames(2)["grey"]) == (2, {30})
    tell("release")  # the last one
    assert (frames(2)["published"], frames(2)["grey"]) == (1, {10})
    tell("release")
    assert frames(1) == {"published": 1, "same": True, "png": ""}
    assert frames(-1)["text"] == "no frame is out: all of them are free"


def test_a_frame_that_was_sent_comes_before_one_that_may_be_half_written(frames, tell):
    tell("send 40")
    tell("acquire 10")
    found = frames()
    assert found["grey"] == {40}
    assert found["text"] == "A frame that was sent: uint8, shape (40, 60), 40 to 40"
    tell("acquire 11")
    assert frames()["grey"] == {11}


def test_pictures_take_no_frame_away(frames, tell):
    """A producer that needs all frames of the set at once gets them, while pictures are made."""
    stop, seen = threading.Event(), []

    def look():
        while not stop.is_set():
            seen.append(frames())

    looker = threading.Thread(target=look)
    looker.start()
    eventually(lambda: seen, "a first look")
    for _ in range(30):
        tell("all")
    stop.set()
    looker.join()
    assert frames()["text"] == "no frame is out: all of them are free"
    tell("all at once")


def test_frames_that_are_no_pictures_and_frames_that_are_gone(frames, tell, client):
    tell("numbers")
    found = frames(path=frames.path.replace(key_of("cam"), key_of("numbers")))
    assert found["png"] == ""
    assert found["text"].endswith("perhaps half written: float32 (5,), 7.0 to 7.0")
    answer = client.get(frames.path.replace(key_of("cam"), "unknown"))
    assert answer.status_code == 404
    assert "no such frame pool" in answer.json()["problem"]


def test_a_member_that_shows_frames_does_not_keep_them_open(frames, tell):
    tell("acquire 10")
    assert frames()["published"] == 1
    tell("another")
    found = frames()
    assert found["text"].endswith("perhaps half written: uint8, shape (9, 9), 5 to 5")


def test_a_message_that_cannot_be_unpickled(client, tell):
    tell("bad")
    (key,) = [each["key"] for each in client.get("/api/pools").json()]
    client.post(f"/api/pools/{key}/join")
    found = client.get(f"/api/pools/{key}/streams/{key_of('objects')}").json()
    assert found["text"] == "the message cannot be shown: RuntimeError: <b>no</b>"
    assert json.loads(json.dumps(found)) == found


def test_the_end_of_the_server_leaves_the_pool(tell):
    headers = {"X-Onecopy-Token": TOKEN}
    with TestClient(app(token=TOKEN), base_url="http://127.0.0.1", headers=headers) as client:
        (key,) = [each["key"] for each in client.get("/api/pools").json()]
        client.post(f"/api/pools/{key}/join")
        assert tell("nothing") == 2
    assert tell("nothing") == 1


def test_unused_pools_are_left(tell, pool_directory):
    visits = Visits()
    path = f"{pool_directory}/cam.pool"
    visits.join(path)
    visits.leave_all(unused_for=1000.0)
    assert (len(visits), tell("nothing")) == (1, 2)
    visits.leave_all()
    assert (len(visits), tell("nothing")) == (0, 1)
    visits.leave(path)
    with pytest.raises(NotJoinedError):
        visits.newest(path, "x", -1, bgr=False)


def test_a_page_that_is_closed_leaves_after_a_while(monkeypatch, tell):
    monkeypatch.setattr("onecopy.web.server.UNUSED", 0.05)
    headers = {"X-Onecopy-Token": TOKEN}
    with TestClient(app(token=TOKEN), base_url="http://127.0.0.1", headers=headers) as client:
        (key,) = [each["key"] for each in client.get("/api/pools").json()]
        client.post(f"/api/pools/{key}/join")
        eventually(lambda: tell("nothing") == 1, "the server to leave the pool")


def test_the_pool_of_a_member_stays_joined(client):
    """Here the server is in the same process as a member: leaving must not end that membership."""
    with oc.Pool.create("own", size="4MiB") as pool:
        (key,) = [each["key"] for each in client.get("/api/pools").json()]
        client.post(f"/api/pools/{key}/join")
        client.post(f"/api/pools/{key}/leave")
        pool.queue("jobs").put(1)
        assert pool.stats().processes == 1


FULL = """
import onecopy as oc
with oc.Pool.create("full", size="4MiB", max_processes=1) as pool:
    print("ready", flush=True)
    input()
"""


def test_a_pool_without_a_free_slot_is_not_joined(client):
    with subprocess.Popen(
        [sys.executable, "-c", FULL], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"ready\n"
        (key,) = [each["key"] for each in client.get("/api/pools").json()]
        assert client.get(f"/api/pools/{key}").status_code == 200
        answer = client.post(f"/api/pools/{key}/join")
        assert answer.status_code == 503
        assert "\n" not in answer.json()["problem"]
        child.communicate(b"\n")
