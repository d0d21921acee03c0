"""The tests of distributed that do not apply with onecopy, or that are not run, and the reasons.

A name is ``FILE::TEST``, with all its parameters or with some: ``FILE::TEST[a-b]``.
"""

EXCLUDED = {
    "test_client.py::test_bad_address": "dials an address of another machine",
    "test_comms.py::test_share_buffer_with_header": (
        "asks whether a received array lies in one buffer with its header; it lies in the pool"
    ),
    "test_compression.py::test_compress_remote_comms": (
        "wants what goes to another address of this machine to be compressed; it goes by place"
    ),
    "test_rechunk.py::test_rechunk_in_memory_shards_dont_share_buffer": (
        "asks for the buffer behind an array, which has to be one of the types that Dask receives"
    ),
}
