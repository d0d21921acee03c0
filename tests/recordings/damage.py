"""Recordings with changed bytes, and whether they are refused in the right way."""

import onecopy as oc


def damaged(dice, whole):
    """Return a copy in which up to eight bytes are changed."""
    data = bytearray(whole)
    for _ in range(dice.choice([1, 1, 2, 8])):
        at = dice.randrange(len(data))
        data[at] = dice.choice([0, 255, data[at] ^ 1 << dice.randrange(8)])
    return data


def is_refused(path):
    """Read a recording whole. It is read, or `BadFile`: any other error fails the test."""
    try:
        with oc.open_recording(path) as recording:
            assert recording.channels is not None
            list(recording)
    except oc.BadFile:
        return True
    return False
