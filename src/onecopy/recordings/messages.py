"""Messages as bytes, and back: which form a message has, and what a reader accepts.

================  =============================  ==================================================
message           encoding of its channel        bytes
================  =============================  ==================================================
an array          `ARRAY`; the schema is JSON:   the elements, in C order
                  ``{"dtype", "shape"}``
plain values      `CBOR`, no schema              see `onecopy.recordings.plain`
anything else     `PICKLE`, no schema            a pickle. A reader refuses it unless it is trusted
================  =============================  ==================================================

A writer that encodes pictures (see `onecopy.recordings.pictures`) has four more encodings. Builds
without them refuse these by name:

==================  ===============================================================================
`PNG`, `JPEG`       a picture by itself, as such a file; the schema is that of the array
`CBOR_PICTURES`     plain values; at least one array is a picture
`PICKLE_PICTURES`   a pickle; at least one array is a picture
==================  ===============================================================================

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
from onecopy.recordings.pictures import decoded, decoded_of_pickle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onecopy.recordings.pictures import Pictures

__all__ = ["PICKLES", "Encoded", "Form", "array_of", "decode", "encode", "form_of"]

ARRAY, CBOR, PICKLE = "onecopy.ndarray", "cbor", "pickle"
PNG, JPEG = "onecopy.png", "onecopy.jpeg"
CBOR_PICTURES, PICKLE_PICTURES = "onecopy.cbor+pictures", "onecopy.pickle+pictures"
PICKLES = (PICKLE, PICKLE_PICTURES)
_PICTURES = {PNG: "png", JPEG: "jpeg"}
_WITH_SCHEMA = (ARRAY, PNG, JPEG)
_KNOWN = (*_WITH_SCHEMA, CBOR, CBOR_PICTURES, *PICKLES)


class Form(NamedTuple):
    """How the messages of one channel of a file are written.

    Attributes
    ----------
    encoding : str
        One of those at the top of this module, or one that only other programs know.
    schema : bytes
        Of arrays and pictures: JSON with dtype and shape. Otherwise empty.
    """

    encoding: str
    schema: bytes = b""


class Encoded(NamedTuple):
    """A message as it will be written."""

    form: Form
    parts: Sequence[bytes | memoryview]


def encode(value: Any, *, own_channel: bool = True, pictures: Pictures | None = None) -> Encoded:
    """Write a message.

    Parameters
    ----------
    value : object
        Any message.
    own_channel : bool, optional
        Whether an array may have a channel for its shape and dtype.
    pictures : Pictures, optional
        How pictures in it are encoded. Default: they are written as arrays.

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
            schema = json.dumps(description).encode()
            data = pictures.encoded(value) if pictures is not None else None
            if pictures is not None and data is not None:
                return Encoded(Form(PNG if pictures.format == "png" else JPEG, schema), [data])
            return Encoded(Form(ARRAY, schema), [raw_bytes(value)])
        parts = plain.dump(value, pictures)
        has_some = pictures is not None and pictures.used
        return Encoded(Form(CBOR_PICTURES if has_some else CBOR), parts)
    except NotPlain:
        if pictures is not None:
            pictures.begin_again()
        file = io.BytesIO()
        _Pickler(file, pictures).dump(value)
        has_some = pictures is not None and pictures.used
        return Encoded(Form(PICKLE_PICTURES if has_some else PICKLE), [file.getvalue()])


class _Pickler(pickle.Pickler):
    """Pickles so that the result needs no pool."""

    def __init__(self, file: io.BytesIO, pictures: Pictures | None) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._pictures = pictures

    def reducer_override(self, obj: Any) -> Any:
        if self._pictures is not None and type(obj) in plain.ARRAYS:
            data = self._pictures.encoded(obj)
            if data is not None:
                state = (self._pictures.format, obj.dtype.str, obj.shape, data)
                return decoded_of_pickle, state
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
    if encoding in _WITH_SCHEMA and schema_encoding != encoding:
        return Form(f"{encoding}, without its schema")
    return Form(encoding, schema if encoding in _WITH_SCHEMA else b"")


class _Array(NamedTuple):
    dtype: np.dtype[Any]
    shape: list[int]


@functools.lru_cache(256)
def array_of(form: Form) -> _Array | None:
    """Return dtype and shape of the arrays or pictures of a channel; None if it has others.

    Raises
    ------
    ValueError
        The schema does not say them.
    """
    if form.encoding not in _WITH_SCHEMA:
        return None
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
    ImportError
        It has a picture as PNG or JPEG, and Pillow is not installed.
    """
    if form.encoding in PICKLES:
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
        array = array_of(form)
        if array is not None and form.encoding == ARRAY:
            return array_from(array.dtype, array.shape, data)
        if array is not None:
            return decoded(_PICTURES[form.encoding], array.dtype, array.shape, data)
        if form.encoding in {CBOR, CBOR_PICTURES}:
            return plain.load(data)
    except ValueError as error:
        raise BadFile(f"{where} is damaged: {error}") from None
    raise BadFile(
        f"{where} has the encoding {form.encoding!r}. open_recording reads those that `onecopy "
        f"record` of this version writes: {', '.join(_KNOWN)}. The package mcap reads others"
    )
