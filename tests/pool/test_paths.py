import os
from pathlib import Path

import pytest

from onecopy._core import paths


@pytest.mark.parametrize("name", ["a", "camera", "A-b_c.9", ".hidden", "x" * 100, "a.pool"])
def test_a_name_is_a_file_in_the_pool_directory(name, pool_directory):
    assert paths.locate(name) == (str(pool_directory), f"{name}.pool")


@pytest.mark.parametrize(
    "name", ["", "x" * 101, "a b", "ä", "a\n", "a\0", "a*", "a:b", "a%", ".", ".."]
)
def test_what_cannot_name_a_file_everywhere_is_refused(name):
    with pytest.raises(ValueError, match="cannot name a pool"):
        paths.locate(name)


@pytest.mark.parametrize("name", [None, 7, b"camera", ["camera"]])
def test_a_name_is_a_string(name):
    with pytest.raises(TypeError, match="name is a string"):
        paths.locate(name)


def test_a_name_with_a_slash_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.locate("/data/table") == ("/data", "table")
    assert paths.locate("./table") == (str(tmp_path), "table")
    assert paths.locate(Path("table")) == (str(tmp_path), "table")


@pytest.mark.parametrize("name", ["/data/", "/", "/data/a\0b"])
def test_a_path_must_be_that_of_a_file(name):
    with pytest.raises(ValueError, match="not the file of a pool"):
        paths.locate(name)


def test_names_come_back_from_paths(pool_directory):
    assert paths.pool_name(f"{pool_directory}/camera.pool") == "camera"
    assert paths.pool_name(f"{pool_directory}/table") == f"{pool_directory}/table"
    assert paths.pool_name("/data/table.pool") == "/data/table.pool"


def test_the_directory_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONECOPY_DIR", "pools/")
    assert paths.pool_directory() == f"{tmp_path}/pools"


def test_without_a_setting_each_user_has_a_directory_in_memory(monkeypatch):
    monkeypatch.delenv("ONECOPY_DIR")
    monkeypatch.setattr(paths, "has_dev_shm", lambda: True)
    assert paths.pool_directory() == f"/dev/shm/onecopy-{os.getuid()}"  # noqa: S108 - not used
    monkeypatch.setattr(paths, "has_dev_shm", lambda: False)
    assert paths.pool_directory() == f"/tmp/onecopy-{os.getuid()}"  # noqa: S108 - not used
