"""Pickles of what lies in a pool, taken apart."""

import io
import pickle


def parts(pickled):
    """Take the pickle of a reference apart: what rebuilds it, and from which arguments."""
    found = []

    class Watch(pickle.Unpickler):
        def find_class(self, module, name):
            real = super().find_class(module, name)
            if not module.startswith("onecopy"):
                return real

            def keep(*arguments):
                found.append((real, arguments))
                return real(*arguments)

            return keep

    Watch(io.BytesIO(pickled)).load()
    return found[-1]
