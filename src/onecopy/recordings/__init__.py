"""Recordings: the messages of streams in a file, and back. See docs/recordings.md.

They need the package mcap, and Pillow for encoded pictures: ``pip install 'onecopy[record]'``.
"""

from onecopy.recordings.recorder import RecordingReport, record
from onecopy.recordings.recording import (
    RecordedChannel,
    RecordedMessage,
    Recording,
    open_recording,
)
from onecopy.recordings.replaying import replay
from onecopy.recordings.writer import RecordingWriter

__all__ = [
    "RecordedChannel",
    "RecordedMessage",
    "Recording",
    "RecordingReport",
    "RecordingWriter",
    "open_recording",
    "record",
    "replay",
]
