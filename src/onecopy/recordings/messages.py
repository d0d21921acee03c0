"""Messages as bytes, and back: which form a message has, and what a reader accepts.

================  =============================  ==================================================
message           encoding of its channel        bytes
================  =============================  ==================================================
an array          `ARRAY`; the schema is JSON:   the elements, in C order
                  ``{"dtype", "shape"}``
plain values      `CBOR`, no schema              see `onecopy.recordings.plain`
anything else     `PICKLE`, no schema            a pickle. A reader refuses it unless it is trusted
================  =============================  ==================================================

A stream may have messages of several forms. Each form, shape and dtype is a channel of the file;
they have the same name (MCAP: topic).
"""

from __future__ import annotations

import functools
import io
import json
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onecopy.errors import NotRebuilt, OneCopyError, Untrusted
from onecopy.files.errors import BadFile
from onecopy.recordings import plain
from onecopy.recordings.dtypes import NotPlain, array_from, described, dtype_from, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ARRAY", "CBOR", "PICKLE", "Encoded", "Form", "array_of", "decode", "encode", "form_of"]

ARRAY, CBOR, PICKLE = "onecopy.ndarray", "cbor", "pickle"


class Form(NamedTuple):
    """How the messages of one channel of a file are written.

    Attributes
    ----------
    encoding : str
        `ARRAY`, `CBOR`, `PICKLE`, or one that only other programs know.
    schema : bytes
        Of arrays: JSON with dtype and shape. Otherwise empty.
    """

    encoding: str
    schema: bytes = b""


class Encoded(NamedTuple):
    """A message as it will be written."""

    form: Form
    parts: Sequence[bytes | memoryview]


def encode(value: Any, *, own_channel: bool = True) -> Encoded:
    """Write a message.

    Parameters
    ----------
    value : object
        Any message.
    own_channel : bool, optional
        Whether an array may have a channel for its shape and dtype.

    Returns
    -------
    Encoded
        Its form and its bytes. The bytes of an array are not copied.

    Raises
    ------
    OneCopyError
        It has a queue, a reference or the like, which means nothing without its pool.
    Exception
        The error of pickle, if it cannot be pickled.
    """
    try:
        if own_channel and type(value) in plain.ARRAYS:
            description = {"dtype": described(value.dtype), "shape": list(value.shape)}
            return Encoded(Form(ARRAY, json.dumps(description).encode()), [raw_bytes(value)])
        return Encoded(Form(CBOR), plain.dump(value))
    except NotPlain:
        file = io.BytesIO()
        _Pickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
        return Encoded(Form(PICKLE), [file.getvalue()])


class _Pickler(pickle.Pickler):
    """Pickles so that the result needs no pool."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray) and type(obj) in plain.ARRAYS[1:]:
            return np.array(obj, subok=False).__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if type(obj).__module__.partition(".")[0] == "onecopy" and hasattr(obj, "handle"):
            raise OneCopyError(
                f"the message has a {type(obj).__name__}, which means nothing without its pool: "
                "publish the data itself (for a Ref: what its get() returns)"
            )
        return NotImplemented


def form_of(encoding: str, schema_encoding: str, schema: bytes) -> Form:
    """Return the form of a channel of a file. An unknown encoding is kept as it is."""
    if encoding == ARRAY and schema_encoding != ARRAY:
        return Form(f"{ARRAY}, without its schema")
    return Form(encoding, schema if encoding == ARRAY else b"")


class _Array(NamedTuple):
    dtype: np.dtype[Any]
    shape: list[int]


@functools.lru_cache(256)
def array_of(form: Form) -> _Array:
    """Return dtype and shape of the arrays of a channel.

    Raises
    ------
    ValueError
        The schema does not say them.
    """
    try:
        found = json.loads(form.schema)
        dtype, shape = dtype_from(found["dtype"]), found["shape"]
    except (TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"the schema has no dtype and shape: {error!r}") from None
    if not isinstance(shape, list) or not all(type(side) is int for side in shape):
        raise ValueError("the schema has no shape")
    return _Array(dtype, shape)


def decode(form: Form, data: memoryview, trust: bool, where: str) -> Any:
    """Read a message.

    Parameters
    ----------
    form : Form
        Of its channel.
    data : memoryview
        Its bytes.
    trust : bool
        Whether a pickle may be loaded.
    where : str
        The message, for texts of errors: "message 7 of 'camera' in /tmp/run.mcap".

    Returns
    -------
    object
        The message. Arrays are private and writable.

    Raises
    ------
    Untrusted
        It is a pickle, and `trust` is false.
    BadFile
        The bytes are not a message of that form, or the form is unknown.
    NotRebuilt
        Its pickle cannot be loaded here.
    """
    if form.encoding == PICKLE:
        if not trust:
            raise Untrusted(
                f"{where} is a pickle, and loading a pickle can run any code. If you trust its"
                " origin, open it with trust=True (on the command line: --trust)"
            )
        try:
            return pickle.loads(data)
        except Exception as error:
            raise NotRebuilt(f"{where} cannot be unpickled here: {error!r}") from error
    try:
        if form.encoding == ARRAY:
            kind, shape = array_of(form)
            return array_from(kind, shape, data)
        if form.encoding == CBOR:
            return plain.load(data)
    except ValueError as error:
        raise BadFile(f"{where} is damaged: {error}") from None
    raise BadFile(
        f"{where} has the encoding {form.encoding!r}. open_recording reads those that `onecopy "
        f"record` writes: {ARRAY}, {CBOR}, {PICKLE}. The package mcap reads others"
    )
