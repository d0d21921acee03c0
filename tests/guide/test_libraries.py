"""Libraries write into an array of a pool, as the page about read-only arrays says."""

import io
import socket

import numpy as np
import pytest

import onecopy as oc
from onecopy import _native

SHAPE = (48, 64, 3)


@pytest.fixture
def frames():
    """The frames, and no array of them: pytest would keep it, and its pool, for too long."""
    with oc.Pool.create(size="16MiB") as pool:
        yield pool.frames(shape=SHAPE, dtype="uint8", count=2)


def image(value, shape=SHAPE):
    return np.full(shape, value, "uint8")


def test_numpy(frames):
    picture = frames.acquire()
    np.add(image(3), image(4), out=picture)
    assert (picture == 7).all()
    np.copyto(picture, image(5))
    assert (picture == 5).all()


def test_opencv(frames, tmp_path):
    picture = frames.acquire()
    picture[:] = 0
    cv2 = pytest.importorskip("cv2")
    made = cv2.resize(image(5, (24, 32, 3)), (64, 48), dst=picture)
    assert np.shares_memory(made, picture)
    assert (picture == 5).all()
    made = cv2.cvtColor(image(6), cv2.COLOR_RGB2BGR, dst=picture)
    assert np.shares_memory(made, picture)
    assert (picture == 6).all()
    other = cv2.resize(image(7), (32, 24), dst=picture)
    assert not np.shares_memory(other, picture)
    assert (picture == 6).all()

    film = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(film, cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    writer.write(image(200))
    writer.release()
    capture = cv2.VideoCapture(film)
    done, made = capture.read(picture)
    capture.release()
    assert done
    assert np.shares_memory(made, picture)
    assert picture.mean() > 150


def test_scipy(frames):
    picture = frames.acquire()
    ndimage = pytest.importorskip("scipy.ndimage")
    ndimage.gaussian_filter(image(9), 1, output=picture)
    assert (picture == 9).all()


def test_torch(frames):
    picture = frames.acquire()
    _native.guard_writes(False)  # other tests of this process continue as without torch
    torch = pytest.importorskip("torch")
    torch.from_numpy(picture).copy_(torch.full(SHAPE, 8, dtype=torch.uint8))
    assert (picture == 8).all()


def test_files_and_sockets(frames):
    picture = frames.acquire()
    assert io.BytesIO(b"\4" * picture.nbytes).readinto(picture) == picture.nbytes
    assert (picture == 4).all()
    here, there = socket.socketpair()
    with here, there:
        here.sendall(b"\6" * 100)
        assert there.recv_into(picture, 100, socket.MSG_WAITALL) == 100
    assert (picture.reshape(-1)[:100] == 6).all()


def test_pillow(frames):
    picture = frames.acquire()
    pillow = pytest.importorskip("PIL.Image")
    np.copyto(picture, pillow.new("RGB", (64, 48), (1, 1, 1)))
    assert (picture == 1).all()


def test_what_only_reads_a_received_array():
    pillow = pytest.importorskip("PIL.Image")
    with oc.Pool.create(size="16MiB") as pool:
        received = pool.put(image(0)).get()
        copy = pillow.fromarray(received)
        copy.putpixel((0, 0), (255, 0, 0))
        assert received.max() == 0
        numbers = pool.put(np.arange(10_000.0)).get()
        for module, make in (("polars", "Series"), ("pyarrow", "array")):
            made = getattr(pytest.importorskip(module), make)(numbers)
            assert np.shares_memory(made.to_numpy(), numbers)
            del made
