"""CPython's own tests of multiprocessing, run against `onecopy.multiprocessing`.

    python -m tests.stdlib [--method fork|spawn|forkserver] [CLASS or CLASS.test ...]

The tests are those of the interpreter that runs this (its ``test`` package). `translate` writes a
copy of the module in which every import of multiprocessing is replaced with onecopy's, also in the
programs that the tests run. A small module next to it calls ``install_tests_in_module_dict`` for a
start method, as CPython's own does. `exclusions` lists the tests that cannot apply, each with its
reason; an exclusion that names no test is an error.
"""
