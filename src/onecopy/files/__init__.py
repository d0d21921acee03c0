"""Mapped files: arrays and tables that travel by the name of their file.

    mapping   one mapping per file and process; which memory lies in which file; handles
    advice    prefault, and how the file will be read
    array     `open_array`: raw and .npy files
    npy       the header of a .npy file
    table     `open_table`: Arrow and Parquet files
    passing   connects mapped files to the codecs
    mapped    `MappedArray`
    users     which processes have a file open
    errors    `BadFile`

These modules are imported on first use.
"""
