"""Awaitable calls: the same operations as the blocking ones, for tasks of an event loop.

No thread waits for a task. `loops` connects an event loop with the native core, `waiting` repeats a
call until it need not wait, `channels` and `locks` have the twins of the blocking methods.
"""
