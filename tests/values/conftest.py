"""Descriptors that the standard library opens once and keeps."""

import multiprocessing

import pytest


@pytest.fixture(scope="module", autouse=True)
def _heap_of_the_standard_library():
    """Have its descriptors open before a test counts them."""
    multiprocessing.get_context("fork").Value("d")
