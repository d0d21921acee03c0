// Objects of plain classes, named tuples, members of enums. onecopy._codec.plans makes a plan once
// for each class; it knows what pickle does with the class.
//
//|  u8 node, count: which class of the message; if it is a new one: text node: module,
//|  text node: name; then
//|    plain     count, pairs of nodes: its attributes, in their order
//|    named     count, nodes
//|    member    node: its value
//|    others    codec_slots.cpp
#include "bindings/codec_buffers.hpp"
#include "bindings/codec_packed.hpp"
#include "bindings/errors.hpp"

namespace onecopy::py {

namespace {

constexpr std::size_t kPlans = 256, kNear = 8;
Plan plans[kPlans + kNear];
Table table;  // guards `plans`

Plan* place_of(PyTypeObject* type) noexcept {
    const auto address = static_cast<u64>(reinterpret_cast<std::uintptr_t>(type));
    return plans + (address >> 4 ^ address >> 12) % kPlans;
}

unsigned int tag_of(PyTypeObject* type) noexcept {
#if PY_VERSION_HEX < 0x030d0000
    if ((type->tp_flags & Py_TPFLAGS_VALID_VERSION_TAG) == 0) return 0;
#endif
    return relaxed(type->tp_version_tag);
}

const Plan* known_plan(PyTypeObject* type) noexcept {
    const unsigned int tag = tag_of(type);
    if (tag == 0) return nullptr;
    const Plan* place = place_of(type);
    for (std::size_t i = 0; i < kNear; ++i) {
        if (place[i].type == type && place[i].tag == tag) return place + i;
    }
    return nullptr;
}

void release(Plan& plan) noexcept {
    Py_XDECREF(plan.module);
    Py_XDECREF(plan.name);
    Py_XDECREF(plan.slots);
}

// The place for a new plan of a class: its old plan, else an empty place, else another plan.
Plan& place_for(PyTypeObject* type) noexcept {
    static std::size_t next = 0;
    Plan* place = place_of(type);
    for (std::size_t i = 0; i < kNear; ++i) {
        if (place[i].type == type) return place[i];
    }
    for (std::size_t i = 0; i < kNear; ++i) {
        if (place[i].type == nullptr) return place[i];
    }
    return place[next++ % kNear];
}

// sys.modules[module].name. nullptr without an exception: it does not exist.
Item find(PyObject* module, PyObject* name) noexcept {
    const Item where = entry_of(PyImport_GetModuleDict(), module);
    Item found = where.get() != nullptr && PyModule_CheckExact(where.get())
                     ? entry_of(PyModule_GetDict(where.get()), name)
                     : Item(nullptr);
    if (found.get() == nullptr) PyErr_Clear();
    return found;
}

// The tables in which types are registered with copyreg and multiprocessing. A new reference.
PyObject* table_in(const char* module, const char* first, const char* second) noexcept {
    PyObject* key = PyUnicode_FromString(module);
    const Item found = key == nullptr ? Item(nullptr) : entry_of(PyImport_GetModuleDict(), key);
    Py_XDECREF(key);
    if (found.get() == nullptr) {
        PyErr_Clear();
        return nullptr;
    }
    PyObject* inside = PyObject_GetAttrString(found.get(), first);
    if (inside != nullptr && second != nullptr)
        Py_SETREF(inside, PyObject_GetAttrString(inside, second));
    if (inside == nullptr) PyErr_Clear();
    if (inside != nullptr && !PyDict_CheckExact(inside)) Py_CLEAR(inside);
    return inside;
}

}  // namespace

bool is_registered(PyTypeObject* type) noexcept {
    static Kept kept[2];  // for ever: there is one of each
    PyObject *copyreg = kept[0].get(), *reducers = kept[1].get();
    if (copyreg == nullptr) copyreg = kept[0].keep(table_in("copyreg", "dispatch_table", nullptr));
    if (reducers == nullptr)
        reducers = kept[1].keep(
            table_in("multiprocessing.reduction", "ForkingPickler", "_extra_reducers"));
    auto* key = reinterpret_cast<PyObject*>(type);
    for (PyObject* table : {copyreg, reducers}) {
        const int has = table == nullptr ? 0 : PyDict_Contains(table, key);
        if (has < 0) PyErr_Clear();
        if (has != 0) return true;
    }
    return false;
}

Done make_plan(PyTypeObject* type) noexcept {
    if (hooks.plan == nullptr) return Done::no;
    PyObject* answer = PyObject_CallOneArg(hooks.plan, reinterpret_cast<PyObject*>(type));
    if (answer == nullptr) return Done::failed;
    int kind = 0, fields = 0;
    PyObject *module = nullptr, *name = nullptr;
    PyObject* slots = nullptr;
    if (answer != Py_None && !PyArg_ParseTuple(answer, "iUUiO!", &kind, &module, &name, &fields,
                                               &PyTuple_Type, &slots)) {
        Py_DECREF(answer);
        return Done::failed;
    }
    if (slots != nullptr && !are_fields_of(type, slots)) kind = 0;
    Plan made{type,
              tag_of(type),
              static_cast<PlanKind>(kind),
              static_cast<u32>(fields),
              Py_XNewRef(module),
              Py_XNewRef(name),
              Py_XNewRef(slots)};
    const unsigned int tag = made.tag;
    {
        const Table::Inside inside(table);
        std::swap(place_for(type), made);
    }
    release(made);
    Py_DECREF(answer);
    return tag != 0 ? Done::yes : Done::no;
}

#ifdef Py_GIL_DISABLED

OwnPlans::~OwnPlans() {
    for (Plan* plan : all_) {
        release(*plan);
        delete plan;
    }
}

const Plan* OwnPlans::find(PyTypeObject* type) noexcept {
    const unsigned int tag = tag_of(type);
    for (const Plan* plan : all_) {
        if (plan->type == type && plan->tag == tag) return plan;
    }
    auto* copy = new (std::nothrow) Plan;
    if (copy == nullptr) return nullptr;
    {
        const Table::Inside inside(table);
        if (const Plan* known = known_plan(type); known != nullptr) {
            *copy = *known;
            Py_XINCREF(copy->module);
            Py_XINCREF(copy->name);
            Py_XINCREF(copy->slots);
        }
    }
    if (copy->type != nullptr && all_.add(copy)) return copy;
    PyErr_Clear();
    release(*copy);
    delete copy;
    return nullptr;
}

#else

const Plan* OwnPlans::find(PyTypeObject* type) noexcept {
    return known_plan(type);
}

#endif

// ---- writing ------------------------------------------------------------------------------------

bool Packer::write_class(PyTypeObject* type, const Plan& plan, Node node) noexcept {
    std::size_t number = 0;
    while (number < classes_.size() && classes_[number] != type)
        ++number;
    if (!nodes_.room(1 + kCountBytes)) return false;
    nodes_.node(node);
    nodes_.count(number);
    if (number < classes_.size()) return true;
    return classes_.add(type) && write_text(plan.module) && write_text(plan.name);
}

// Whether a reader would find this class by its name, and the class is registered nowhere.
bool Packer::is_reachable(PyTypeObject* type, const Plan& plan) noexcept {
    for (PyTypeObject* known : classes_) {
        if (known == type) return true;
    }
    return find(plan.module, plan.name).get() == reinterpret_cast<PyObject*>(type) &&
           !is_registered(type);
}

Done Packer::write_of_class(PyObject* object, int depth) noexcept {
    PyTypeObject* type = Py_TYPE(object);
    const Item kept = kept_here(reinterpret_cast<PyObject*>(type));
    const Plan* plan = plans_.find(type);
    if (plan == nullptr) {
        if (!may_ask_) return Done::no;
        stills_.hold(kept.get());
        unknown_ = type;
        return Done::failed;
    }
    if (plan->kind == PlanKind::built) return write_built(object, depth);
    if (plan->kind == PlanKind::none || !is_reachable(type, *plan)) return Done::no;
    if (depth >= kDeepest) {
        whole_ = true;
        return Done::failed;
    }
    switch (plan->kind) {
        case PlanKind::named:
            return write_named(object, type, *plan, depth);
        case PlanKind::slotted:
            return write_slotted(object, type, *plan, depth);
        case PlanKind::frozen:
            return write_frozen(object, type, *plan, depth);
        case PlanKind::called:
        case PlanKind::called_by_name:
            return write_called(object, type, *plan, depth);
        default:
            break;
    }
    PyObject* dict = PyObject_GenericGetDict(object, nullptr);
    if (dict == nullptr) return Done::failed;
    Done done = Done::no;
    if (!PyDict_CheckExact(dict)) {
        // Left to pickle.
    } else if (plan->kind == PlanKind::member) {
        static Kept kept_name;
        PyObject* value_name = interned(kept_name, "_value_");
        PyObject* still = value_name == nullptr ? nullptr : stills_.of(dict);
        PyObject* value = still == nullptr ? nullptr : PyDict_GetItemWithError(still, value_name);
        if (value != nullptr) {
            done = write_class(type, *plan, Node::member) && write(value, depth + 1, false)
                       ? Done::yes
                       : Done::failed;
        } else if (PyErr_Occurred()) {
            done = Done::failed;
        }
    } else {
        done = write_plain(object, type, *plan, dict, depth);
    }
    Py_DECREF(dict);
    return done;
}

// Notes an object that has an identity. no: it is new, and must be written. yes: it was met before,
// and is written.
Done Packer::meet(PyObject* object) noexcept {
    if (is_met_once(object)) return Done::no;
    const u64 met = memo_.meet(object, nodes_.size());
    if (met == Memo::kFailed) return Done::failed;
    if (met == Memo::kNew) return Done::no;
    return write_again(object, met, false) ? Done::yes : Done::failed;
}

// The same for an object that enters the reader's table when it is complete. Pickle cannot pickle
// one that contains itself; it raises the error. After `no`, the caller ends with `open_.drop`.
Done Packer::begin_whole(PyObject* object) noexcept {
    const std::size_t where = nodes_.size();
    if (!is_met_once(object)) {
        const u64 met = memo_.meet(object, where);
        if (met == Memo::kFailed) return Done::failed;
        if (met != Memo::kNew) {
            for (const u64 open : open_) {
                if (open == met) {
                    whole_ = true;
                    return Done::failed;
                }
            }
            return write_again(object, met, false) ? Done::yes : Done::failed;
        }
    }
    return open_.add(where) ? Done::no : Done::failed;
}

Done Packer::write_named(PyObject* object, PyTypeObject* type, const Plan& plan,
                         int depth) noexcept {
    const Py_ssize_t n = PyTuple_GET_SIZE(object);
    if (n != static_cast<Py_ssize_t>(plan.fields)) return Done::no;
    if (const Done met = begin_whole(object); met != Done::no) return met;
    if (!write_class(type, plan, Node::named) || !nodes_.room(kCountBytes)) return Done::failed;
    nodes_.count(static_cast<u64>(n));
    for (Py_ssize_t i = 0; i < n; ++i) {
        if (!write(PyTuple_GET_ITEM(object, i), depth + 1, false)) return Done::failed;
    }
    open_.drop();
    return Done::yes;
}

Done Packer::write_plain(PyObject* object, PyTypeObject* type, const Plan& plan, PyObject* dict,
                         int depth) noexcept {
    if (Stills::kCopies && (dict = stills_.of(dict)) == nullptr) return Done::failed;
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &value)) {
        // Pickle would call a `__reduce_ex__` among the attributes first.
        if (!PyUnicode_CheckExact(key) ||
            (PyUnicode_GET_LENGTH(key) > 2 && PyUnicode_READ_CHAR(key, 0) == '_' &&
             PyUnicode_READ_CHAR(key, 1) == '_'))
            return Done::no;
    }
    if (const Done met = meet(object); met != Done::no) return met;
    if (!write_class(type, plan, Node::plain) || !nodes_.room(kCountBytes)) return Done::failed;
    nodes_.count(static_cast<u64>(PyDict_GET_SIZE(dict)));
    at = 0;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (!write_text(key) || !write(value, depth + 1, false)) return Done::failed;
    }
    return Done::yes;
}

// ---- reading ------------------------------------------------------------------------------------

namespace {

// The class of that name, as pickle finds it. A new reference.
PyObject* find_class(PyObject* module, PyObject* name) noexcept {
    if (PySys_Audit("pickle.find_class", "OO", module, name) < 0) return nullptr;
    if (Item known = find(module, name); known.get() != nullptr) return known.release();
    PyObject* imported = PyImport_Import(module);
    if (imported == nullptr) return nullptr;
    PyObject* found = PyObject_GetAttr(imported, name);
    Py_DECREF(imported);
    return found;
}

// The member of that value, from the table that the enum itself reads first. nullptr without an
// exception: the enum must be called. A new reference.
PyObject* member_of(PyObject* type, PyObject* value) noexcept {
    static Kept kept;
    PyObject* table_name = interned(kept, "_value2member_map_");
    PyObject* members = table_name == nullptr ? nullptr : PyObject_GetAttr(type, table_name);
    PyObject* member = members != nullptr && PyDict_CheckExact(members)
                           ? entry_of(members, value).release()
                           : nullptr;
    Py_XDECREF(members);
    if (member == nullptr) PyErr_Clear();
    return member;
}

}  // namespace

bool Unpacker::read_class(Known& out) noexcept {
    u64 number;
    if (!get_count(number) || number > classes_.size()) return wrong() != nullptr;
    if (number < classes_.size()) {
        out = classes_[number];
        return true;
    }
    PyObject* module = read(kDeepest, true);
    PyObject* name = module == nullptr ? nullptr : read(kDeepest, true);
    PyObject* type = nullptr;
    if (name != nullptr) {
        if (!PyUnicode_CheckExact(module) || !PyUnicode_CheckExact(name)) {
            wrong();
        } else if ((type = find_class(module, name)) == nullptr) {
            explain();
        } else if (!PyType_Check(type)) {
            PyErr_Format(PyExc_TypeError, "%U.%U is no class in this process, but a %.200s", module,
                         name, Py_TYPE(type)->tp_name);
            Py_CLEAR(type);
        }
    }
    Py_XDECREF(module);
    Py_XDECREF(name);
    if (type == nullptr) return false;
    auto* made = reinterpret_cast<PyTypeObject*>(type);
    const Plan* plan = plans_.find(made);
    if (plan == nullptr) {
        if (make_plan(made) == Done::failed) {
            Py_DECREF(type);
            return false;
        }
        plan = plans_.find(made);
    }
    out = {made, PlanKind::none, 0, nullptr};
    if (plan != nullptr) out = {made, plan->kind, plan->fields, Py_XNewRef(plan->slots)};
    if (classes_.add(out)) return true;
    Py_DECREF(type);
    Py_XDECREF(out.slots);
    return false;
}

// An object without its attributes. `direct`: no code of the class runs.
PyObject* Unpacker::new_object(const Known& known, bool direct) noexcept {
    PyObject* made;
    if (direct) {
        PyObject* none = empty_tuple();
        if (none == nullptr) return nullptr;
        made = PyBaseObject_Type.tp_new(known.type, none, nullptr);
    } else {
        made = PyObject_CallMethod(reinterpret_cast<PyObject*>(known.type), "__new__", "O",
                                   known.type);
    }
    if (made == nullptr) explain();
    return made;
}

PyObject* Unpacker::read_plain(const Known& known, u64 where, bool shared, int depth) noexcept {
    u64 n;
    if (!get_elements(n, 2)) return wrong();
    const bool is_plain = known.kind == PlanKind::plain;
    PyObject* made = new_object(known, is_plain);
    if (made == nullptr) return nullptr;
    if (shared && !note(where, made)) {
        Py_DECREF(made);
        return nullptr;
    }
    PyObject* state = is_plain ? PyObject_GenericGetDict(made, nullptr) : PyDict_New();
    bool sound = state != nullptr && PyDict_Check(state);
    for (u64 i = 0; sound && i < n; ++i) {
        PyObject* key = read(kDeepest, true);
        sound = key != nullptr && (PyUnicode_CheckExact(key) || wrong() != nullptr);
        if (sound) PyUnicode_InternInPlace(&key);
        PyObject* value = sound ? read(depth + 1, false) : nullptr;
        sound = value != nullptr && PyDict_SetItem(state, key, value) == 0;
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    if (sound && !is_plain) sound = set_state(made, state);
    Py_XDECREF(state);
    if (!sound) Py_CLEAR(made);
    return made;
}

// As pickle does for an object whose class defines how to restore it.
bool Unpacker::set_state(PyObject* object, PyObject* state) noexcept {
    PyObject* set = PyObject_GetAttrString(object, "__setstate__");
    PyObject* done = nullptr;
    if (set != nullptr) {
        done = PyObject_CallOneArg(set, state);
        Py_DECREF(set);
    } else if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        PyObject* dict = PyObject_GetAttrString(object, "__dict__");
        if (dict != nullptr) done = PyObject_CallMethod(dict, "update", "O", state);
        Py_XDECREF(dict);
    }
    if (done == nullptr) explain();
    Py_XDECREF(done);
    return done != nullptr;
}

PyObject* Unpacker::read_named(const Known& known, u64 where, bool shared, int depth) noexcept {
    u64 n;
    std::size_t at = 0;
    if (!get_elements(n, 1)) return wrong();
    if (shared && !reserve(where, at)) return nullptr;
    const bool direct = known.kind == PlanKind::named && n == known.fields;
    PyObject* items = direct ? known.type->tp_alloc(known.type, static_cast<Py_ssize_t>(n))
                             : PyTuple_New(static_cast<Py_ssize_t>(n));
    if (items == nullptr) return nullptr;
    for (u64 i = 0; i < n; ++i) {
        PyObject* item = read(depth + 1, false);
        if (item == nullptr) {
            Py_DECREF(items);
            return nullptr;
        }
        PyTuple_SET_ITEM(items, static_cast<Py_ssize_t>(i), item);
    }
    PyObject* made = items;
    if (!direct) {
        auto* type = reinterpret_cast<PyObject*>(known.type);
        PyObject* make = PyObject_GetAttrString(type, "__new__");
        PyObject* first = make == nullptr ? nullptr : PyTuple_Pack(1, type);
        PyObject* arguments = first == nullptr ? nullptr : PySequence_Concat(first, items);
        made = arguments == nullptr ? nullptr : PyObject_Call(make, arguments, nullptr);
        if (made == nullptr) explain();
        Py_XDECREF(make);
        Py_XDECREF(first);
        Py_XDECREF(arguments);
        Py_DECREF(items);
    }
    if (made != nullptr && shared) met_[at].object = Py_NewRef(made);
    return made;
}

PyObject* Unpacker::read_of_class(Node node, u64 where, bool shared, int depth) noexcept {
    Known known;
    if ((flags_ & kHasClasses) == 0 || depth >= kDeepest) return wrong();
    if (!read_class(known)) return nullptr;
    if (node == Node::plain) return read_plain(known, where, shared, depth);
    if (node == Node::named) return read_named(known, where, shared, depth);
    if (node == Node::slotted) return read_slotted(known, where, shared, depth);
    if (node == Node::frozen) return read_frozen(known, where, shared, depth);
    if (node == Node::called || node == Node::called_by_name)
        return read_called(known, node == Node::called_by_name, where, shared, depth);
    PyObject* value = shared ? wrong() : read(depth + 1, false);
    if (value == nullptr) return nullptr;
    auto* type = reinterpret_cast<PyObject*>(known.type);
    PyObject* made = known.kind == PlanKind::member ? member_of(type, value) : nullptr;
    if (made == nullptr) made = PyObject_CallOneArg(type, value);
    Py_DECREF(value);
    if (made == nullptr) explain();
    return made;
}

}  // namespace onecopy::py
