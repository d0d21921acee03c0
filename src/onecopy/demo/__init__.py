"""The main job: real photographs through one pool, next to the same job over multiprocessing.Queue.

Where is what, from the outside in:

=================  ==================================================================
`compare`          runs both transports in alternation and writes the report
`conductor`        starts the processes of one run, watches them, ends them
`roles`            what producers, workers and the writer do; the same code for both
`transport`        what a role needs from a transport
`onecopy_run`      … written with onecopy: pictures stay where they were decoded
`baseline_run`     … written with multiprocessing.Queue: pictures go through pipes
`sources`          pictures of a folder, frames of a video, the shipped photographs
`decode`           a picture file into memory that is already there
`pipeline`         the OpenCV work
`measure`          CPU time and memory of processes, copies counted
`progress`         live bars, or plain lines where there is no terminal
`report`           table, contact sheet and chart
=================  ==================================================================

It needs the extra ``onecopy[demo]``.
"""
