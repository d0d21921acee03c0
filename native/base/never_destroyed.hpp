// An object of static storage whose destructor does not run. Two kinds of objects need it. The
// first are used while the process ends, from Py_AtExit or by threads that are still in the core:
// they must outlive static destructors. The second hold Python objects, and must not release them
// after the interpreter has ended.
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
