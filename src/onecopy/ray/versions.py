"""Which versions of Ray this integration was tested with, and whether one can be used.

It uses what Ray calls alpha, and names that Ray does not promise to keep. So each of them is looked
for before the first is changed.
"""

from __future__ import annotations

import warnings

from onecopy._core.tested import objection

__all__ = ["TESTED", "UntestedVersionWarning", "can_be_used"]

# The first and the last version with which the tests ran.
TESTED = ("2.60.0", "2.60.0")

# By module: attributes, and attributes of classes.
_NAMES = {
    "ray": ("get", "get_actor", "init", "put", "remote"),
    "ray.cloudpickle": ("CloudPickler.dispatch",),
    "ray._private.worker": (
        "global_worker.current_job_id",
        "global_worker.get_serialization_context",
    ),
    "ray._private.serialization": ("SerializationContext.is_in_band_serialization",),
    "ray.experimental.rdt": (
        "CommunicatorMetadata",
        "TensorTransportManager.garbage_collect",
        "TensorTransportMetadata",
        "register_tensor_transport",
    ),
    "ray.util.scheduling_strategies": ("NodeAffinitySchedulingStrategy",),
}


class UntestedVersionWarning(UserWarning):
    """The installed Ray was not tested with this onecopy; Ray works without onecopy."""


def can_be_used() -> bool:
    """Tell whether the installed Ray can be used, and warn if not."""
    import ray

    found = ray.__version__
    reason = objection("Ray", found, TESTED, _NAMES)
    if reason:
        warnings.warn(
            f"onecopy.ray does nothing with Ray {found}: {reason}. Ray works as without onecopy. "
            "Install a tested version, or a newer onecopy",
            UntestedVersionWarning,
            stacklevel=3,
        )
    return not reason
