// A thread that the interpreter ends stops at this module's innermost frame, for ever.
//
// CPython 3.11 to 3.13 end a daemon thread when it next asks for the GIL after the interpreter has
// begun to finalize. They call pthread_exit, which is a forced unwind through every frame of the
// thread. Frames of C++ are not prepared for that: a frame that is `noexcept` calls std::terminate,
// and a destructor would drop references and write to pools without the GIL. nanobind, which is
// linked into this module, has such frames too. Since Python 3.14, the interpreter lets these
// threads hang, and does not end them. With the function below they hang in older versions, too, in
// whatever operation of this module they are.
//
// The unwinder asks the personality routine of each frame with a handler or a clean-up what is to
// be done there. The linker directs all references of this module to the routine of C++ to the
// function below (`--wrap`, see CMakeLists.txt). A forced unwind stops here, before any clean-up
// has run. C++ exceptions take their usual way. pthread_cancel is a forced unwind as well; nobody
// may cancel a thread that runs Python code.
//
// The thread may hold locks of pools. A process with such a thread does not give up what it holds
// (leaving.cpp). So other processes take these locks over when the process has ended.
#include <unwind.h>

#include "os/processes.hpp"

extern "C" {
// The linker gives them these names.
// NOLINTBEGIN(bugprone-reserved-identifier)
_Unwind_Reason_Code __real___gxx_personality_v0(int version, _Unwind_Action actions,
                                                _Unwind_Exception_Class exception_class,
                                                _Unwind_Exception* exception,
                                                _Unwind_Context* context);

[[gnu::used]] _Unwind_Reason_Code __wrap___gxx_personality_v0(
    int version, _Unwind_Action actions, _Unwind_Exception_Class exception_class,
    _Unwind_Exception* exception, _Unwind_Context* context) {
    if ((actions & _UA_FORCE_UNWIND) != 0) onecopy::os::hang();
    return __real___gxx_personality_v0(version, actions, exception_class, exception, context);
}
// NOLINTEND(bugprone-reserved-identifier)
}
