"""The answers of `onecopy web`: which requests are refused, and what is shown of any pool."""

import collections
import dataclasses
import json
import re
from pathlib import Path

import pytest
from children import eventually
from children import start as start_child

import onecopy as oc
from onecopy.web import server
from onecopy.web.guard import host_problem
from onecopy.web.server import app
from onecopy.web.view import LEVELS, PARTS, ROWS, dump, seen
from onecopy.web.watching import Paced, Watches, key_of

pytest.importorskip("httpx2")
from starlette.testclient import TestClient

TOKEN = "t" * 32
STATIC = Path(server.__file__).with_name("static")


def page(*pools, token=TOKEN, host="127.0.0.1", base="http://127.0.0.1:8000"):
    headers = {} if token is None else {"X-Onecopy-Token": token}
    application = app(pools, token=TOKEN, host=host, interval=0.0)
    return TestClient(application, base_url=base, headers=headers)


def problem(answer, status):
    """Return the line of an answer that is a problem."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    (line,) = answer.json().values()
    assert "\n" not in line
    assert len(line) < 400
    return line


def look(client, name):
    (key,) = [each["key"] for each in client.get("/api/pools").json() if each["name"] == name]
    return client.get(f"/api/pools/{key}")


def becomes(client, path, status):
    """Wait until the last snapshot is old enough."""
    eventually(lambda: client.get(path).status_code == status, f"status {status}")


# ---- requests that are refused


@pytest.mark.parametrize(
    ("token", "says"),
    [(None, "has no token"), ("", "wrong"), ("t" * 31, "wrong"), ("T" * 32, "wrong")],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/pools"),
        ("GET", "/api/pools/x"),
        ("POST", "/api/pools/x/join"),
        ("GET", "/api/pools/x/streams/y"),
        ("GET", "/api/nothing"),
    ],
)
def test_without_the_token_there_is_no_answer(token, says, method, path):
    with page(token=token) as client:
        assert says in problem(client.request(method, path), 403)


def test_a_token_of_odd_bytes_is_only_wrong():
    with page(token=None) as client:
        answer = client.get("/api/pools", headers={"X-Onecopy-Token": b"\xff\xfe\x80"})
        assert "wrong" in problem(answer, 403)


@pytest.mark.parametrize(
    ("header", "served", "is_fine"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("127.0.0.5", "127.0.0.1", True),
        ("localhost:1", "127.0.0.1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("[::1]:8000", "::1", True),
        ("evil.example:8000", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("192.168.1.2", "127.0.0.1", False),
        ("[2001:db8::1]:80", "127.0.0.1", False),
        ("[", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        (None, "127.0.0.1", False),
        ("evil.example", "0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("192.168.1.2:80", "0.0.0.0", True),  # noqa: S104
        ("camera-pc:80", "camera-pc", True),
        ("localhost", "camera-pc", True),
    ],
)
def test_the_host_header(header, served, is_fine):
    assert (host_problem(header, served) is None) == is_fine


def test_another_host_gets_nothing():
    with page(base="http://evil.example") as client:
        for path in ("/", "/static/page.js", "/api/pools"):
            assert "this server is not 'evil.example'" in problem(client.get(path), 403)


def test_the_page_runs_only_its_own_scripts():
    with page(token=None) as client:
        answer = client.get("/")
        rules = answer.headers["content-security-policy"]
        assert "default-src 'none'" in rules
        assert "unsafe" not in rules
        for name in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
            part = client.get(f"/{name}")
            assert part.status_code == 200, name
            assert part.headers["content-security-policy"] == rules
        assert not re.search(r"<script(?![^>]* src=)|<style|style=| on\w+=", answer.text)
    for script in STATIC.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", script.read_text()
        )


def test_the_licence_of_the_charts_is_in_the_package():
    assert "Copyright (c) 2022 Leon Sorokin" in (STATIC / "uplot/LICENSE").read_text()
    assert "uPlot" in (STATIC / "uplot/uPlot.iife.min.js").read_text()[:100]


def test_there_is_no_way_out_of_the_folder():
    with page() as client:
        for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/nothing"):
            assert client.get(path).status_code == 404


# ---- what is shown


def test_a_pool():
    with oc.Pool.create("factory", size="16MiB") as pool, page() as client:
        jobs = pool.queue("jobs", maxsize=4)
        jobs.put(bytes(1 << 20))
        live = pool.stream("live")
        live.publish(1)
        frames = pool.frames("cam", (64, 64), count=3)
        held = frames.acquire()
        ready, lock = pool.event("ready"), pool.lock("index")
        pool["numbers"] = list(range(10))
        with lock:
            answer = look(client, "factory")
        assert float(answer.headers["x-onecopy-every"]) >= 0
        found = answer.json()
        (queue,) = found["queues"]
        assert (queue["name"], queue["depth"], queue["room"]) == ("jobs", 1, 4)
        (stream,) = found["streams"]
        assert (stream["published"], stream["key"]) == (1, key_of("live"))
        (cam,) = found["frames"]
        assert cam["key"] == key_of("cam")
        assert (cam["free"], cam["count"]) == (2, 3)
        assert cam["holders"][0]["by"].startswith(found["memory"]["holders"][0]["name"])
        by_name = {each["name"]: each for each in found["locks"]}
        assert len(by_name["index"]["holders"]) == 1
        assert by_name["ready"]["details"] == "not set"
        assert len(found["processes"]) == found["counts"]["processes"] == 1
        parts = found["memory"]["parts"]
        assert {"jobs", "live", "cam", "numbers", "free"} <= {each["name"] for each in parts}
        assert sum(each["bytes"] for each in parts) == found["size"]
        del held, ready


def test_the_map_of_the_memory():
    with oc.Pool.create("factory", size="64MiB") as pool, page() as client:
        pool["kept"] = bytes(8 << 20)
        held = pool.zeros(16 << 20, "u1")
        memory = look(client, "factory").json()["memory"]
        names = [each["name"] for each in memory["parts"]]
        assert 256 < sum(many for many, *_ in memory["map"]) <= 512
        sizes = collections.Counter()
        for many, full, thing, process in memory["map"]:
            if full == 0:
                assert (thing, process) == (None, None)
                sizes["free"] += many * memory["cell"]
            elif full == LEVELS:
                name = names[thing] if isinstance(thing, int) else thing
                sizes[name, process] += many * memory["cell"]
        small = 2 * memory["cell"]  # at each end of a block
        assert sizes["kept", "none"] == pytest.approx(8 << 20, abs=small)
        assert sizes["held", 0] == pytest.approx(16 << 20, abs=small)
        assert sizes["free"] == pytest.approx(40 << 20, abs=2 << 20)
        assert memory["holders"][0]["slot"] == pool.member.slot
        del held


def test_the_map_of_the_memory_names_ten_things():
    with oc.Pool.create("crowd", size="64MiB") as pool, page() as client:
        for number in range(PARTS + 2):
            pool[f"part {number}"] = bytes((2 << 20) + (number << 16))
        memory = look(client, "crowd").json()["memory"]
        things = {thing for _, full, thing, _ in memory["map"] if full == LEVELS}
        assert things == {*range(PARTS), "other"}


def test_nothing_is_joined_and_nothing_is_changed():
    path = None
    with oc.Pool.create("kept", size="4MiB", persistent=True) as pool:
        pool.queue("jobs").put(1)
        path = Path(pool.member.path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with page() as client:
        assert look(client, "kept").json()["processes"] == []
        assert look(client, "kept").json()["said"] == ["No process is a member of the pool."]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    path.unlink()


ODD = ["<script>alert(1)</script>", "a\nb\t\x1b[31m", "\u202egpj", "日本 é", "x" * 200, "'\"&;"]


def test_names_of_any_characters_are_one_line_of_text():
    with oc.Pool.create("odd", size="16MiB") as pool, page() as client:
        kept = [pool.queue(name) for name in ODD] + [pool.lock(name) for name in ODD]
        kept += [pool.stream(name) for name in ODD]
        answer = look(client, "odd")
        assert answer.content.isascii()
        found = answer.json()
        for things in (found["queues"], found["streams"], found["locks"]):
            assert len({each["id"] for each in things}) == len(ODD)
            assert all(each["name"].isprintable() for each in things)
        assert ODD[0] in [each["name"] for each in found["queues"]]
        assert r"a\nb\t\x1b[31m" in [each["name"] for each in found["queues"]]
        assert len(kept) == 3 * len(ODD)


def test_very_long_texts_are_cut():
    assert json.loads(dump({"command": "x" * 10000 + "\udcff"}))["command"] == "x" * 399 + "…"
    assert json.loads(dump(["\udcff"])) == [r"\udcff"]


def test_a_pool_that_goes_away_and_comes_back():
    with page() as client:
        assert client.get("/api/pools").json() == []
        with oc.Pool.create("brief", size="4MiB"):
            eventually(lambda: client.get("/api/pools").json() != [], "the pool to be listed")
            key = client.get("/api/pools").json()[0]["key"]
            assert client.get(f"/api/pools/{key}").status_code == 200
        becomes(client, f"/api/pools/{key}", 404)
        assert "there is no pool" in problem(client.get(f"/api/pools/{key}"), 404)
        with oc.Pool.create("brief", size="4MiB"):
            becomes(client, f"/api/pools/{key}", 200)
        assert "no such pool" in problem(client.get("/api/pools/unknown"), 404)


def other_version(path):
    content = bytearray(path.read_bytes()[:4096])
    content[8] += 1  # the layout's version follows the magic
    with path.open("r+b") as file:
        file.write(content)


def cut(path):
    with path.open("r+b") as file:
        file.truncate(5000)


def text(path):
    path.write_text("no pool")


@pytest.mark.parametrize("damage", [other_version, cut, text])
def test_pools_that_cannot_be_read(damage):
    with oc.Pool.create("bad", size="4MiB", persistent=True) as pool:
        path = Path(pool.member.path)
    with page("bad") as client:
        (listed,) = client.get("/api/pools").json()
        assert client.get(f"/api/pools/{listed['key']}").status_code == 200
        damage(path)
        becomes(client, f"/api/pools/{listed['key']}", 503)
        assert "bad" in problem(client.get(f"/api/pools/{listed['key']}"), 503)
        assert "bad" in problem(client.post(f"/api/pools/{listed['key']}/join"), 503)
    path.unlink()


def member_that_ends():
    pool = oc.Pool.open("lone")
    pool.queue("jobs").put(1)
    oc.Pool.open("lone").stream("live").publish(2)
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_a_pool_whose_processes_are_all_dead(pool_directory):
    with oc.Pool.create("lone", size="4MiB") as pool:
        child = start_child("fork", member_that_ends)
        child.wait()
        child.end()
        path = Path(pool.member.path)
        content = path.read_bytes()
    # The last one out has removed the name. This is what it had looked like if all had died.
    path.write_bytes(content)
    path.chmod(0o600)
    with page() as client:
        found = look(client, "lone").json()
        assert "All processes of the pool are dead." in found["said"][0]
        assert {each["state"] for each in found["processes"]} == {"dead"}
        key = client.get("/api/pools").json()[0]["key"]
        client.post(f"/api/pools/{key}/join")
        client.post(f"/api/pools/{key}/leave")
        assert look(client, "lone").status_code == 200
    assert path.exists()
    path.unlink()


def test_512_processes():
    with oc.Pool.create("many", size="4MiB") as pool, oc.observe(pool) as observer:
        shot = observer.snapshot()
        one = shot.processes[0]
        many = tuple(dataclasses.replace(one, slot=slot, pid=1000 + slot) for slot in range(512))
        found = seen(dataclasses.replace(shot, processes=many), key_of)
        assert len(found["processes"]) == 512 <= ROWS
        assert len({each["id"] for each in found["processes"]}) == 512
        assert len(found["memory"]["holders"]) <= 11


def test_only_the_pool_that_was_asked_for(pool_directory):
    one, other = oc.Pool.create("a", size="4MiB"), oc.Pool.create("b", size="4MiB")
    with one, other, page("b") as client:
        (listed,) = client.get("/api/pools").json()
        assert (listed["name"], listed["state"]) == ("b", "in_use")
        key = key_of(f"{pool_directory}/a.pool")
        assert "no such pool" in problem(client.get(f"/api/pools/{key}"), 404)
    with page("b") as client:
        assert "no such pool" in client.get("/api/pools").json()[0]["problem"]


def test_wrong_names_are_refused_at_the_start():
    with pytest.raises(ValueError, match="name"):
        app(["a\0b"], token=TOKEN)


# ---- pace


def test_costly_snapshots_are_rare(monkeypatch):
    used = [0.0]
    monkeypatch.setattr("onecopy.web.watching.time.thread_time", lambda: used[0])
    calls = []

    def make():
        calls.append(1)
        used[0] += 0.05
        return len(calls)

    paced = Paced(make, least=1.0, share=0.005)
    assert paced.get() == (1, pytest.approx(10.0))
    assert paced.get().value == 1


def test_an_error_is_not_kept():
    results = iter([OSError("not now"), 7])

    def make():
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    paced = Paced(make, least=100.0)
    with pytest.raises(OSError, match="not now"):
        paced.get()
    assert paced.get().value == paced.get().value == 7


def test_few_observers_are_kept(monkeypatch):
    monkeypatch.setattr("onecopy.web.watching._MOST", 2)
    watches = Watches(["a", "b", "c"], 0.0)
    first = watches.watch(key_of(watches._only[0]))
    assert watches.watch(first.key) is first
    for path in watches._only[1:]:
        watches.watch(key_of(path))
    assert len(watches._watches) == 2
