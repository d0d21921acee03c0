"""Which versions of distributed this integration was tested with, and whether one can be used.

It uses names that distributed does not promise to keep. So each of them is looked for before the
first is changed.
"""

from __future__ import annotations

import warnings

from onecopy._core.tested import objection

__all__ = ["TESTED", "UntestedVersionWarning", "can_be_used"]

# The first and the last version with which the tests ran.
TESTED = ("2025.9.1", "2026.8.0")

# By module: attributes, and attributes of classes.
_NAMES = {
    "distributed.comm.tcp": (
        "TCP.read",
        "TCP.write",
        "TCP.close",
        "TCP.abort",
        "TLS.read",
        "TCPConnector.comm_class",
        "TCPListener.comm_class",
        "TLSConnector.comm_class",
        "TLSListener.comm_class",
    ),
    "distributed.comm.core": ("Comm.handshake_info", "CommClosedError"),
    "distributed.comm.utils": ("to_frames", "from_frames"),
    "distributed.protocol.numpy": ("serialize_numpy_ndarray", "deserialize_numpy_ndarray"),
    "distributed.protocol.serialize": (
        "Pickled",
        "Serialize",
        "Serialized",
        "ToPickle",
        "dask_deserialize",
        "dask_serialize",
        "deserialize",
        "families",
        "register_serialization_family",
        "serialize",
    ),
    "distributed.system_monitor": ("SystemMonitor.get_process_memory",),
    "distributed.utils": ("DequeHandler.emit", "offload"),
    "distributed.worker": ("Worker.get_data",),
}


class UntestedVersionWarning(UserWarning):
    """The installed distributed was not tested with this onecopy; Dask works without onecopy."""


def can_be_used() -> bool:
    """Tell whether the installed distributed can be used, and warn if not."""
    import distributed

    found = distributed.__version__
    reason = objection("distributed", found, TESTED, _NAMES)
    if reason:
        warnings.warn(
            f"onecopy.dask does nothing with distributed {found}: {reason}. Dask works as without "
            "onecopy. Install a tested version, or a newer onecopy",
            UntestedVersionWarning,
            stacklevel=4,
        )
    return not reason
