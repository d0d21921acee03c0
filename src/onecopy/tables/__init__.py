"""How objects of other libraries travel through a pool without copies.

Most objects of pandas, pyarrow and scipy need no code here: numpy and Arrow export their memory as
buffers to pickle's protocol 5, and the codecs do the rest. This package handles the other objects.
It has modules for each library, which are loaded when the program has loaded the library itself.
`registration` registers them with `_codec.registry`, which knows no library. `_codec.packing` has
the interface of the pickler for them.

==================  ==============================================================================
module              what it takes apart
==================  ==============================================================================
`arrow`             slices of pyarrow's arrays, which would carry the whole original array
`pandas_columns`    pandas' Arrow-backed columns, and blocks with gaps, which pandas would copy
`pandas_frames`     pandas' frames and indexes, without pickle
`polars_frames`     polars' frames and series, by way of Arrow
`tensors`           torch's tensors on the CPU
`registration`      (not a library: what this package registers)
`writable`          (not a library: `onecopy.writable_copy`)
==================  ==============================================================================
"""
