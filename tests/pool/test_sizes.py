import numpy as np
import pytest

from onecopy._core.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, 1),
        (4096, 4096),
        (np.int64(77), 77),
        ("77", 77),
        ("77B", 77),
        ("512MB", 512_000_000),
        ("2GiB", 2 << 30),
        ("2gib", 2 << 30),
        ("1.5 GiB", 3 << 29),
        ("0.5KB", 500),
        (" 10 k ", 10_000),
        ("10KiB", 10_240),
        ("1TiB", 1 << 40),
        ("3T", 3_000_000_000_000),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_a_number_of_bytes(size, expected):
    assert parse_size(size) == expected


@pytest.mark.parametrize(
    "size",
    [0, -1, "0", "0MB", "0.1B", "", "GiB", "1XB", "1iB", "1 2", "-1MB", "1e6", "nan", "٣MB x"],
)
def test_what_is_no_size_above_zero_is_refused(size):
    with pytest.raises(ValueError, match="size"):
        parse_size(size)


@pytest.mark.parametrize("size", [None, 1.5, True, b"1MB", [1]])
def test_other_types_are_refused(size):
    with pytest.raises(TypeError, match="size"):
        parse_size(size)


def test_an_error_names_the_argument():
    with pytest.raises(ValueError, match="ONECOPY_POOL_SIZE='big'"):
        parse_size("big", "ONECOPY_POOL_SIZE")


@pytest.mark.parametrize(
    ("nbytes", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (2 << 30, "2.0 GiB"),
        (3 << 40, "3.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_sizes_are_written_with_a_unit(nbytes, expected):
    assert format_size(nbytes) == expected
