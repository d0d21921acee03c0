"""Tables of other libraries, and numpy's other kinds of array, on their way through a pool.

Most of what pandas, pyarrow and scipy have goes through pickle's protocol 5 as it should: numpy and
Arrow hand out their memory as buffers, and the codecs do the rest. Here is what does not: one
module for each library, loaded once the program has loaded the library itself. `registry` knows
which are, and `packing` what they may ask of the pickler.

==================  ==============================================================================
module              what it takes apart
==================  ==============================================================================
`ndarrays`          subclasses of `numpy.ndarray`, memory maps, masked arrays
`arrow`             slices of pyarrow's arrays, which would take their whole parents along
`pandas_columns`    pandas' Arrow-backed columns and scattered blocks, which pandas would copy first
`polars_frames`     polars' frames and series, by way of Arrow
`text`              numpy arrays of Python strings
`writable`          no library: `onecopy.writable_copy`
==================  ==============================================================================
"""
