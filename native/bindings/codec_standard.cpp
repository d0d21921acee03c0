// Parts of a packed message that are objects of classes of the standard library. The part has the
// arguments that pickle would give to the class.
//
//   u8 PartKind::standard, u8 which, then
//     date          u16 year, u8 month, u8 day
//     time          u8 hour, u8 minute, u8 second, u32 microsecond, u8 zone and fold
//     datetime      both
//     timedelta     i32 days, i32 seconds, i32 microseconds
//     uuid          16 bytes
//     decimal, …    count, UTF-8: the only argument of the class
#include "bindings/codec_packed.hpp"
#include "bindings/errors.hpp"

#include <datetime.h>

namespace onecopy::py {
namespace {

enum class Standard : u8 {
    date = 1,
    time,
    datetime,
    timedelta,
    uuid,
    decimal,
    posix_path,
    pure_posix_path,
};
constexpr u8 kFold = 1, kUtc = 2;

// Classes that are looked up when an object of that name is met.
struct Class {
    const char *module, *name;
    PyObject* type = nullptr;
};
Class classes[] = {{"uuid", "UUID"},
                   {"decimal", "Decimal"},
                   {"pathlib", "PosixPath"},
                   {"pathlib", "PurePosixPath"},
                   {"uuid", "SafeUUID"}};

// Borrowed; nullptr with an exception set.
PyObject* get(Class& known) noexcept {
    if (known.type == nullptr) {
        PyObject* module = PyImport_ImportModule(known.module);
        if (module == nullptr) return nullptr;
        known.type = PyObject_GetAttrString(module, known.name);
        Py_DECREF(module);
    }
    return known.type;
}

bool has_times() noexcept {
    if (PyDateTimeAPI == nullptr) PyDateTime_IMPORT;
    return PyDateTimeAPI != nullptr;
}

// The byte for a time zone; false: it must be pickled.
bool zone_of(PyObject* zone, u8 fold, u8& out) noexcept {
    if (zone != Py_None && zone != PyDateTime_TimeZone_UTC) return false;
    out = static_cast<u8>((fold != 0 ? kFold : 0) | (zone != Py_None ? kUtc : 0));
    return true;
}

bool is_named(PyTypeObject* type, const char* name) noexcept {
    return std::strcmp(type->tp_name, name) == 0;
}

// SafeUUID.unknown: borrowed; nullptr with an exception set.
PyObject* unknown_safety() noexcept {
    static PyObject* unknown = nullptr;
    if (unknown == nullptr) {
        PyObject* type = get(classes[4]);
        if (type != nullptr) unknown = PyObject_GetAttrString(type, "unknown");
    }
    return unknown;
}

// Whether it is an ordinary UUID; its 16 bytes.
Done bytes_of_uuid(PyObject* object, unsigned char* to) noexcept {
    PyObject* unknown = unknown_safety();
    PyObject* safety = unknown == nullptr ? nullptr : PyObject_GetAttrString(object, "is_safe");
    PyObject* number = safety == nullptr ? nullptr : PyObject_GetAttrString(object, "int");
    Done done = Done::no;
    if (number != nullptr && safety == unknown && PyLong_CheckExact(number)) {
#if PY_VERSION_HEX >= 0x030d0000
        const int failed =
            _PyLong_AsByteArray(reinterpret_cast<PyLongObject*>(number), to, 16, 1, 0, 1);
#else
        const int failed =
            _PyLong_AsByteArray(reinterpret_cast<PyLongObject*>(number), to, 16, 1, 0);
#endif
        if (failed == 0) done = Done::yes;
    }
    Py_XDECREF(safety);
    Py_XDECREF(number);
    if (done != Done::yes) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) return Done::failed;
        PyErr_Clear();  // an incomplete object: pickle raises the error
    }
    return done;
}

}  // namespace

Done Packer::add_standard(PyObject* object) noexcept {
    PyTypeObject* type = Py_TYPE(object);
    if (!has_times()) return Done::failed;
    if (!parts_.room(32)) return Done::failed;
    const std::size_t before = parts_.size();
    const auto begin = [&](Standard which) {
        parts_.byte(static_cast<u8>(PartKind::standard));
        parts_.byte(static_cast<u8>(which));
    };
    const auto day = [&](PyObject* date) {
        parts_.value(static_cast<std::uint16_t>(PyDateTime_GET_YEAR(date)));
        parts_.byte(static_cast<u8>(PyDateTime_GET_MONTH(date)));
        parts_.byte(static_cast<u8>(PyDateTime_GET_DAY(date)));
    };
    Done done = Done::no;
    u8 zone;
    if (PyDateTime_CheckExact(object)) {
        if (!zone_of(PyDateTime_DATE_GET_TZINFO(object),
                     static_cast<u8>(PyDateTime_DATE_GET_FOLD(object)), zone))
            return Done::no;
        begin(Standard::datetime);
        day(object);
        parts_.byte(static_cast<u8>(PyDateTime_DATE_GET_HOUR(object)));
        parts_.byte(static_cast<u8>(PyDateTime_DATE_GET_MINUTE(object)));
        parts_.byte(static_cast<u8>(PyDateTime_DATE_GET_SECOND(object)));
        parts_.value(static_cast<u32>(PyDateTime_DATE_GET_MICROSECOND(object)));
        parts_.byte(zone);
        done = Done::yes;
    } else if (PyDate_CheckExact(object)) {
        begin(Standard::date);
        day(object);
        done = Done::yes;
    } else if (PyTime_CheckExact(object)) {
        if (!zone_of(PyDateTime_TIME_GET_TZINFO(object),
                     static_cast<u8>(PyDateTime_TIME_GET_FOLD(object)), zone))
            return Done::no;
        begin(Standard::time);
        parts_.byte(static_cast<u8>(PyDateTime_TIME_GET_HOUR(object)));
        parts_.byte(static_cast<u8>(PyDateTime_TIME_GET_MINUTE(object)));
        parts_.byte(static_cast<u8>(PyDateTime_TIME_GET_SECOND(object)));
        parts_.value(static_cast<u32>(PyDateTime_TIME_GET_MICROSECOND(object)));
        parts_.byte(zone);
        done = Done::yes;
    } else if (PyDelta_CheckExact(object)) {
        begin(Standard::timedelta);
        parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_DAYS(object)));
        parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_SECONDS(object)));
        parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_MICROSECONDS(object)));
        done = Done::yes;
    } else if (is_named(type, "UUID") || is_named(type, "decimal.Decimal") ||
               is_named(type, "PosixPath") || is_named(type, "PurePosixPath")) {
        for (u8 i = 0; i < 4 && done == Done::no; ++i) {
            PyObject* known = get(classes[i]);
            if (known == nullptr) return Done::failed;
            if (known != reinterpret_cast<PyObject*>(type)) continue;
            if (is_registered(type)) return Done::no;
            begin(static_cast<Standard>(static_cast<u8>(Standard::uuid) + i));
            if (i == 0) {
                Writer to = parts_.writer();
                done = bytes_of_uuid(object, to.at());
                if (done == Done::yes) parts_.advance_to(to.at() + 16);
            } else {
                done = add_text(object);
            }
            if (done != Done::yes) break;
        }
        if (done != Done::yes) parts_.advance_to(parts_.data() + before);
        return done;
    }
    if (done == Done::yes && is_registered(type)) {
        parts_.advance_to(parts_.data() + before);
        return Done::no;
    }
    return done;
}

Done Packer::add_text(PyObject* object) noexcept {
    PyObject* text = PyObject_Str(object);
    Py_ssize_t n = 0;
    const char* data = text == nullptr ? nullptr : PyUnicode_AsUTF8AndSize(text, &n);
    Done done = Done::failed;
    if (data != nullptr) {
        if (parts_.room(kCountBytes + static_cast<std::size_t>(n))) {
            parts_.count(static_cast<u64>(n));
            parts_.run(data, static_cast<std::size_t>(n));
            done = Done::yes;
        }
    } else if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear();  // a path whose bytes are not text
        done = Done::no;
    }
    Py_XDECREF(text);
    return done;
}

// ---- reading ------------------------------------------------------------------------------------

namespace {

// The class makes the object. Values that the class refuses mean a damaged message.
PyObject* made_or_wrong(const PoolPtr& pool, PyObject* made) noexcept {
    if (made != nullptr || PyErr_ExceptionMatches(PyExc_MemoryError) ||
        PyErr_ExceptionMatches(PyExc_ImportError) || !PyErr_ExceptionMatches(PyExc_Exception))
        return made;
    PyErr_Clear();
    return raise_corrupt(pool, "a packed message");
}

PyObject* make_uuid(const unsigned char* data) noexcept {
    PyObject* type = get(classes[0]);
    PyObject* unknown = type == nullptr ? nullptr : unknown_safety();
    static PyObject *number_name = nullptr, *safety_name = nullptr, *none = nullptr;
    if (unknown == nullptr) return nullptr;
    if (none == nullptr) {
        number_name = PyUnicode_InternFromString("int");
        safety_name = PyUnicode_InternFromString("is_safe");
        if (number_name == nullptr || safety_name == nullptr) return nullptr;
        if ((none = PyTuple_New(0)) == nullptr) return nullptr;
    }
    PyObject* number = _PyLong_FromByteArray(data, 16, 1, 0);
    PyObject* made = number == nullptr ? nullptr
                                       : PyBaseObject_Type.tp_new(
                                             reinterpret_cast<PyTypeObject*>(type), none, nullptr);
    // The class itself forbids setting attributes.
    if (made != nullptr && (PyObject_GenericSetAttr(made, number_name, number) != 0 ||
                            PyObject_GenericSetAttr(made, safety_name, unknown) != 0))
        Py_CLEAR(made);
    Py_XDECREF(number);
    return made;
}

}  // namespace

PyObject* Unpacker::read_standard() noexcept {
    u8 which, month = 1, day = 1, hour = 0, minute = 0, second = 0, zone = 0;
    std::uint16_t year = 1;
    u32 micro = 0;
    if (!has_times()) return nullptr;
    if (!from_.get(which)) return wrong();
    const auto standard = static_cast<Standard>(which);
    const bool has_day = standard == Standard::date || standard == Standard::datetime;
    const bool has_time = standard == Standard::time || standard == Standard::datetime;
    if (has_day && (!from_.get(year) || !from_.get(month) || !from_.get(day))) return wrong();
    if (has_time && (!from_.get(hour) || !from_.get(minute) || !from_.get(second) ||
                     !from_.get(micro) || !from_.get(zone) || micro > 999999 || zone > 3))
        return wrong();
    PyObject* tz = (zone & kUtc) != 0 ? PyDateTime_TimeZone_UTC : Py_None;
    const int fold = zone & kFold;
    switch (standard) {
        case Standard::date:
            return made_or_wrong(pool_, PyDate_FromDate(year, month, day));
        case Standard::time:
            return made_or_wrong(pool_, PyDateTimeAPI->Time_FromTimeAndFold(
                                            hour, minute, second, static_cast<int>(micro), tz, fold,
                                            PyDateTimeAPI->TimeType));
        case Standard::datetime:
            return made_or_wrong(
                pool_, PyDateTimeAPI->DateTime_FromDateAndTimeAndFold(
                           year, month, day, hour, minute, second, static_cast<int>(micro), tz,
                           fold, PyDateTimeAPI->DateTimeType));
        case Standard::timedelta: {
            std::int32_t days, seconds, micros;
            if (!from_.get(days) || !from_.get(seconds) || !from_.get(micros)) return wrong();
            return made_or_wrong(pool_, PyDelta_FromDSU(days, seconds, micros));
        }
        case Standard::uuid: {
            const unsigned char* data = from_.take(16);
            return data == nullptr ? wrong() : make_uuid(data);
        }
        case Standard::decimal:
        case Standard::posix_path:
        case Standard::pure_posix_path: {
            u64 n;
            const unsigned char* data = get_count(n) && n <= from_.left()
                                            ? from_.take(static_cast<std::size_t>(n))
                                            : nullptr;
            if (data == nullptr) return wrong();
            PyObject* type = get(classes[which - static_cast<u8>(Standard::uuid)]);
            if (type == nullptr) return nullptr;
            PyObject* text = PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(data),
                                                  static_cast<Py_ssize_t>(n), nullptr);
            PyObject* made = text == nullptr ? nullptr : PyObject_CallOneArg(type, text);
            Py_XDECREF(text);
            return made_or_wrong(pool_, made);
        }
    }
    return wrong();
}

}  // namespace onecopy::py
