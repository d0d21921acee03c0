"""Files that every process maps: arrays and tables that travel by naming the file they lie in.

    mapping   one mapping per file and process; whose memory lies where; handles
    advice    prefault, and how the file will be read
    array     `open_array`: raw and .npy files
    npy       the header of a .npy file
    table     `open_table`: Arrow and Parquet files
    passing   what lies in them, on its way
    leased    arrays of a pool that is open for reading only
    blocks    buffers of other libraries in such a pool
    naming    the pickle of what is found by name
    users     which processes have a file open
    errors    `BadFile`

Nothing here is imported before it is used.
"""
