// `async for` over a channel, without a coroutine for an item that is there already.
#pragma once
#include "bindings/objects.hpp"

namespace onecopy::py {

// What it means for a call that nothing is there. No error: the call returns nullptr.
enum class Nothing : bool { is_an_error, is_no_error };

// Takes an item without waiting. nullptr without an exception: there is none now, or an error that
// the coroutine will raise.
using TakeNow = PyObject* (*)(PyObject* channel) noexcept;

// An asynchronous iterator. Its `__anext__` gives an awaitable that has taken nothing. When it is
// awaited, it takes an item at once. If there is none, and now and then so that other tasks run,
// the coroutine `later(pause)` takes its place. `pause`: whether other tasks are to run first.
PyObject* async_items(PyObject* channel, TakeNow take, PyObject* later) noexcept;

bool init_async_items() noexcept;

}  // namespace onecopy::py
