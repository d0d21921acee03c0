"""The main job: real photographs through one pool, next to the same job over multiprocessing.Queue.

The modules, from the outside in:

=================  ==================================================================
`compare`          runs both transports in alternation and writes the report
`conductor`        starts the processes of one run, watches them, ends them
`roles`            what producers, workers and the writer do; the same code for both
`transport`        the interface of a transport
`onecopy_run`      a transport with onecopy: pictures stay where they were decoded
`baseline_run`     a transport with multiprocessing.Queue: pictures go through pipes
`sources`          pictures of a folder, frames of a video, scikit-image's photographs
`decode`           decodes a picture file into existing memory
`pipeline`         the OpenCV work
`measure`          CPU time and memory of processes, number of copies
`progress`         live bars, or plain lines if there is no terminal
`report`           table, contact sheet and chart
=================  ==================================================================

It needs the extra ``onecopy[demo]``.
"""
