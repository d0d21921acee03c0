// An object of static storage whose destructor does not run. What is used while the process ends
// (from Py_AtExit, by threads that are still in the core) must outlive static destructors; and what
// holds Python objects must not release them after the interpreter has ended.
#pragma once

namespace onecopy {

template <class T>
union NeverDestroyed {
    T value;
    constexpr NeverDestroyed() noexcept : value() {}
    ~NeverDestroyed() {}
    NeverDestroyed(const NeverDestroyed&) = delete;
    NeverDestroyed& operator=(const NeverDestroyed&) = delete;
};

}  // namespace onecopy
