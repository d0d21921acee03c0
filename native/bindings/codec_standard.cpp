// Parts of a packed message that are objects of classes of the standard library. The part has the
// arguments that pickle would give to the class.
//
//|  u8 PartKind::standard, u8 which, then
//|    date          u16 year, u8 month, u8 day
//|    time          u8 hour, u8 minute, u8 second, u32 microsecond, u8 zone and fold; kZone: zone
//|    datetime      both
//|    timedelta     i32 days, i32 seconds, i32 microseconds
//|    uuid          16 bytes
//|    decimal, …    count, UTF-8: the only argument of the class
//|    zone          zone
//|
//|  zone            count: which zone of the message; if it is a new one: u8 kind, then
//|                    offset       i32 days, i32 seconds, i32 microseconds
//|                    named        the same; count, UTF-8: its name
//|                    key          count, UTF-8: the key of a ZoneInfo, which reads a file
#include "bindings/codec_buffers.hpp"
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
    zone,
};
constexpr u8 kFold = 1, kUtc = 2, kZone = 4;
enum class Zone : u8 { offset = 1, named, key };

// Classes that are looked up when an object of that name is met.
struct Class {
    const char *module, *name;
    Kept type;
};
Class classes[] = {{"uuid", "UUID"},         {"decimal", "Decimal"},
                   {"pathlib", "PosixPath"}, {"pathlib", "PurePosixPath"},
                   {"uuid", "SafeUUID"},     {"zoneinfo", "ZoneInfo"}};

// Borrowed; nullptr with an exception set.
PyObject* get(Class& known) noexcept {
    PyObject* type = known.type.get();
    if (type == nullptr) {
        PyObject* module = PyImport_ImportModule(known.module);
        if (module == nullptr) return nullptr;
        type = known.type.keep(PyObject_GetAttrString(module, known.name));
        Py_DECREF(module);
    }
    return type;
}

bool has_times() noexcept {
    // Several threads may write it, all of them the same.
    if (relaxed(PyDateTimeAPI) == nullptr) {
        auto* api = static_cast<PyDateTime_CAPI*>(PyCapsule_Import(PyDateTime_CAPSULE_NAME, 0));
        set_relaxed(PyDateTimeAPI, api);
    }
    return relaxed(PyDateTimeAPI) != nullptr;
}

// The byte for a time zone. With kZone, the zone follows.
u8 zone_byte(PyObject* zone, u8 fold) noexcept {
    const u8 kind = zone == Py_None ? 0 : zone == PyDateTime_TimeZone_UTC ? kUtc : kZone;
    return static_cast<u8>((fold != 0 ? kFold : 0) | kind);
}

bool is_named(PyTypeObject* type, const char* name) noexcept {
    return std::strcmp(type->tp_name, name) == 0;
}

// SafeUUID.unknown: borrowed; nullptr with an exception set.
PyObject* unknown_safety() noexcept {
    static Kept kept;
    PyObject* unknown = kept.get();
    if (unknown == nullptr) {
        PyObject* type = get(classes[4]);
        if (type != nullptr) unknown = kept.keep(PyObject_GetAttrString(type, "unknown"));
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

// The key of a ZoneInfo that pickle sends by its key alone. A new reference; nullptr without an
// exception: it is another one.
PyObject* key_of_zone(PyObject* zone) noexcept {
    // Python code asks for few zones, and a class keeps those that it has made.
    static struct {
        PyObject *zone, *key;
    } known[4];
    static std::size_t next = 0;
    static Attempt attempt;
    {
        const Attempt::Inside inside(attempt);
        for (const auto& one : known) {
            if (inside && one.zone == zone) return Py_NewRef(one.key);
        }
    }
    PyObject* reduced = PyObject_CallMethod(zone, "__reduce__", nullptr);
    PyObject* arguments =
        reduced != nullptr && PyTuple_CheckExact(reduced) && PyTuple_GET_SIZE(reduced) == 2
            ? PyTuple_GET_ITEM(reduced, 1)
            : nullptr;
    PyObject* key = nullptr;
    if (arguments != nullptr && PyTuple_CheckExact(arguments) && PyTuple_GET_SIZE(arguments) == 2) {
        const int cached = PyObject_IsTrue(PyTuple_GET_ITEM(arguments, 1));
        key = PyTuple_GET_ITEM(arguments, 0);
        if (cached != 1 || !PyUnicode_CheckExact(key)) key = nullptr;
    }
    if (key != nullptr) {
        PyObject *old_zone = nullptr, *old_key = nullptr;
        if (const Attempt::Inside inside(attempt); inside) {
            auto& place = known[next++ % 4];
            old_zone = std::exchange(place.zone, Py_NewRef(zone));
            old_key = std::exchange(place.key, Py_NewRef(key));
        }
        Py_INCREF(key);
        Py_XDECREF(old_zone);
        Py_XDECREF(old_key);
    }
    Py_XDECREF(reduced);
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_MemoryError)) PyErr_Clear();
    return key;
}

}  // namespace

// Writes which zone; no: it must be pickled, and nothing was written.
Done Packer::add_zone(PyObject* zone) noexcept {
    std::size_t number = 0;
    while (number < zones_.size() && zones_[number] != zone)
        ++number;
    const std::size_t before = parts_.size();
    if (!parts_.room(kCountBytes + 13)) return Done::failed;
    parts_.count(number);
    if (number < zones_.size()) return Done::yes;
    PyTypeObject* type = Py_TYPE(zone);
    PyObject *text = nullptr, *delta = nullptr, *arguments = nullptr;
    Zone kind = Zone::offset;
    if (is_named(type, "zoneinfo.ZoneInfo") && !is_registered(type)) {
        PyObject* known = get(classes[5]);
        if (known == nullptr) return Done::failed;
        if (known == reinterpret_cast<PyObject*>(type)) text = key_of_zone(zone);
        kind = Zone::key;
    } else if (type == Py_TYPE(PyDateTime_TimeZone_UTC) && !is_registered(type)) {
        arguments = PyObject_CallMethod(zone, "__getinitargs__", nullptr);
        if (arguments != nullptr && PyTuple_CheckExact(arguments)) {
            const Py_ssize_t n = PyTuple_GET_SIZE(arguments);
            if (n > 0 && PyDelta_CheckExact(PyTuple_GET_ITEM(arguments, 0)))
                delta = PyTuple_GET_ITEM(arguments, 0);
            if (n == 2) text = Py_NewRef(PyTuple_GET_ITEM(arguments, 1));
            if (n == 2) kind = Zone::named;
        }
    }
    Py_ssize_t n = 0;
    const char* data = nullptr;
    if (text != nullptr && PyUnicode_CheckExact(text)) data = PyUnicode_AsUTF8AndSize(text, &n);
    const bool known =
        (kind == Zone::key || delta != nullptr) && (kind == Zone::offset || data != nullptr);
    Done done = Done::no;
    if (known) {
        parts_.byte(static_cast<u8>(kind));
        if (delta != nullptr) {
            parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_DAYS(delta)));
            parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_SECONDS(delta)));
            parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_MICROSECONDS(delta)));
        }
        done = Done::yes;
        if (data != nullptr) {
            if (parts_.room(kCountBytes + static_cast<std::size_t>(n))) {
                parts_.count(static_cast<u64>(n));
                parts_.run(data, static_cast<std::size_t>(n));
            } else {
                done = Done::failed;
            }
        }
        if (done == Done::yes && !zones_.add(zone)) done = Done::failed;
        if (kind == Zone::key) by_name_ = true;
    } else {
        if (PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_MemoryError))
                done = Done::failed;
            else
                PyErr_Clear();  // a name that is no text: pickle knows what to do
        }
        parts_.advance_to(parts_.data() + before);
    }
    Py_XDECREF(text);
    Py_XDECREF(arguments);
    return done;
}

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
    const auto time = [&](int hour, int minute, int second, int micro, PyObject* tz, int fold) {
        parts_.byte(static_cast<u8>(hour));
        parts_.byte(static_cast<u8>(minute));
        parts_.byte(static_cast<u8>(second));
        parts_.value(static_cast<u32>(micro));
        const u8 zone = zone_byte(tz, static_cast<u8>(fold));
        parts_.byte(zone);
        return (zone & kZone) == 0 ? Done::yes : add_zone(tz);
    };
    Done done = Done::no;
    if (PyDateTime_CheckExact(object) || PyDate_CheckExact(object) || PyTime_CheckExact(object) ||
        PyDelta_CheckExact(object) || type == Py_TYPE(PyDateTime_TimeZone_UTC) ||
        is_named(type, "zoneinfo.ZoneInfo")) {
        if (is_registered(type)) return Done::no;
        if (PyDateTime_CheckExact(object)) {
            begin(Standard::datetime);
            day(object);
            done = time(PyDateTime_DATE_GET_HOUR(object), PyDateTime_DATE_GET_MINUTE(object),
                        PyDateTime_DATE_GET_SECOND(object), PyDateTime_DATE_GET_MICROSECOND(object),
                        PyDateTime_DATE_GET_TZINFO(object), PyDateTime_DATE_GET_FOLD(object));
        } else if (PyDate_CheckExact(object)) {
            begin(Standard::date);
            day(object);
            done = Done::yes;
        } else if (PyTime_CheckExact(object)) {
            begin(Standard::time);
            done = time(PyDateTime_TIME_GET_HOUR(object), PyDateTime_TIME_GET_MINUTE(object),
                        PyDateTime_TIME_GET_SECOND(object), PyDateTime_TIME_GET_MICROSECOND(object),
                        PyDateTime_TIME_GET_TZINFO(object), PyDateTime_TIME_GET_FOLD(object));
        } else if (PyDelta_CheckExact(object)) {
            begin(Standard::timedelta);
            parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_DAYS(object)));
            parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_SECONDS(object)));
            parts_.value(static_cast<std::int32_t>(PyDateTime_DELTA_GET_MICROSECONDS(object)));
            done = Done::yes;
        } else {
            begin(Standard::zone);
            done = add_zone(object);
        }
        if (done != Done::yes) parts_.advance_to(parts_.data() + before);
        return done;
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
    if (unknown == nullptr) return nullptr;
    static Kept kept_number, kept_safety;
    PyObject* number_name = interned(kept_number, "int");
    PyObject* safety_name = interned(kept_safety, "is_safe");
    PyObject* none = empty_tuple();
    if (number_name == nullptr || safety_name == nullptr || none == nullptr) return nullptr;
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

#if PY_VERSION_HEX < 0x030c0000
// A path from its text, as its class makes it, without Python code. Until 3.11, the class takes the
// text apart at once. nullptr without an exception: the class must be called.
PyObject* make_path(PyTypeObject* type, const char* data, std::size_t n) noexcept {
    static PyObject* fields = nullptr;
    static PyObject* none = nullptr;
    if (none == nullptr && (none = PyTuple_New(0)) == nullptr) return nullptr;
    if (fields == nullptr) {
        PyObject* found[] = {PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "_drv"),
                             PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "_root"),
                             PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "_parts")};
        if (found[0] != nullptr && found[1] != nullptr && found[2] != nullptr)
            fields = PyTuple_Pack(3, found[0], found[1], found[2]);
        for (PyObject* field : found)
            Py_XDECREF(field);
        PyErr_Clear();
        if (fields == nullptr) return nullptr;
    }
    if (!are_fields_of(type, fields)) return nullptr;
    std::size_t at = 0;
    while (at < n && data[at] == '/')
        ++at;
    // Two slashes are a root of their own.
    const Py_ssize_t root = at == 0 ? 0 : at == 2 ? 2 : 1;
    PyObject* made = PyBaseObject_Type.tp_new(type, none, nullptr);
    PyObject* parts = made == nullptr ? nullptr : PyList_New(0);
    PyObject* first = parts == nullptr ? nullptr : PyUnicode_FromStringAndSize("//", root);
    bool sound = first != nullptr && (root == 0 || PyList_Append(parts, first) == 0);
    while (sound && at < n) {
        std::size_t end = at;
        while (end < n && data[end] != '/')
            ++end;
        if (end != at && !(end == at + 1 && data[at] == '.')) {
            PyObject* part =
                PyUnicode_DecodeUTF8(data + at, static_cast<Py_ssize_t>(end - at), nullptr);
            if (part != nullptr) PyUnicode_InternInPlace(&part);
            sound = part != nullptr && PyList_Append(parts, part) == 0;
            Py_XDECREF(part);
        }
        at = end + 1;
    }
    if (sound) {
        field_at(made, PyTuple_GET_ITEM(fields, 0)) = PyUnicode_FromStringAndSize(nullptr, 0);
        field_at(made, PyTuple_GET_ITEM(fields, 1)) = Py_NewRef(first);
        field_at(made, PyTuple_GET_ITEM(fields, 2)) = Py_NewRef(parts);
        sound = field_at(made, PyTuple_GET_ITEM(fields, 0)) != nullptr;
    }
    Py_XDECREF(first);
    Py_XDECREF(parts);
    if (!sound) Py_CLEAR(made);
    return made;
}
#endif

}  // namespace

// Borrowed: the reader keeps the zones of a message.
PyObject* Unpacker::read_zone() noexcept {
    u64 number, n = 0;
    u8 byte;
    if (!get_count(number) || number > zones_.size()) return wrong();
    if (number < zones_.size()) return zones_[number];
    if (!from_.get(byte)) return wrong();
    const auto kind = static_cast<Zone>(byte);
    PyObject *delta = nullptr, *text = nullptr, *made = nullptr;
    if (kind == Zone::offset || kind == Zone::named) {
        std::int32_t days, seconds, micros;
        if (!from_.get(days) || !from_.get(seconds) || !from_.get(micros)) return wrong();
        delta = made_or_wrong(pool_, PyDelta_FromDSU(days, seconds, micros));
        if (delta == nullptr) return nullptr;
    } else if (kind != Zone::key || (flags_ & kHasClasses) == 0) {
        return wrong();
    }
    if (kind != Zone::offset) {
        const unsigned char* data =
            get_count(n) && n <= from_.left() ? from_.take(static_cast<std::size_t>(n)) : nullptr;
        text =
            data == nullptr
                ? wrong()
                : made_or_wrong(pool_, PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(data),
                                                            static_cast<Py_ssize_t>(n), nullptr));
    }
    if (kind == Zone::key) {
        PyObject* type = text == nullptr ? nullptr : get(classes[5]);
        if (type != nullptr && (made = PyObject_CallOneArg(type, text)) == nullptr) explain();
    } else if (kind == Zone::offset || text != nullptr) {
        made = made_or_wrong(pool_, PyDateTimeAPI->TimeZone_FromTimeZone(delta, text));
    }
    Py_XDECREF(delta);
    Py_XDECREF(text);
    if (made != nullptr && !zones_.add(made)) Py_CLEAR(made);
    return made;
}

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
                     !from_.get(micro) || !from_.get(zone) || micro > 999999 ||
                     (zone & ~kFold) > kZone || (zone & ~kFold) == (kUtc | kZone)))
        return wrong();
    PyObject* tz = (zone & kUtc) != 0 ? PyDateTime_TimeZone_UTC : Py_None;
    if ((zone & kZone) != 0 && (tz = read_zone()) == nullptr) return nullptr;
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
        case Standard::zone:
            return Py_XNewRef(read_zone());
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
#if PY_VERSION_HEX < 0x030c0000
            if (standard != Standard::decimal) {
                PyObject* path =
                    make_path(reinterpret_cast<PyTypeObject*>(type),
                              reinterpret_cast<const char*>(data), static_cast<std::size_t>(n));
                if (path != nullptr || PyErr_Occurred()) return made_or_wrong(pool_, path);
            }
#endif
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
