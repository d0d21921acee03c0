// A look at a pool as dicts and lists. `onecopy.observer` makes records of them.
#include "observer/observer.hpp"

#include <array>

#include "bindings/member.hpp"
#include "bindings/numpy_api.hpp"
#include "queue/peek.hpp"

namespace onecopy::py {
namespace {

constexpr std::array kPurposes = {
    "",          "lock",  "get",       "put",   "join",      "read",    "publish", "frame",
    "read_lock", "drain", "semaphore", "event", "condition", "barrier", "memory",  "read_or_end"};
static_assert(kPurposes.size() == kWaitPurposes + 1);
constexpr std::array kRows = {"free", "live", "embryo", "reaping"};

const char* word_of(os::Life life) noexcept {
    switch (life) {
        case os::Life::alive:
            return "alive";
        case os::Life::dead:
            return "dead";
        default:
            return "unknown";
    }
}

nb::object text_of(const std::string& text) {
    // As another process has written it: it may not be UTF-8.
    return nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()),
                                          "backslashreplace"));
}

nb::dict of(const observer::Wait& wait) {
    nb::dict d;
    d["why"] = kPurposes[static_cast<std::size_t>(wait.why)];
    d["thread"] = wait.thread;
    d["since_ns"] = wait.since_ns;
    d["subject"] = wait.subject;
    d["part"] = wait.part;
    return d;
}

nb::dict of(const observer::Process& process) {
    nb::dict d;
    d["slot"] = process.slot;
    d["pid"] = process.pid;
    d["parent_pid"] = process.parent_pid;
    d["row"] = kRows[static_cast<std::size_t>(process.state)];
    d["life"] = word_of(process.life);
    d["start_ticks"] = process.start_ticks;
    d["pid_namespace"] = process.pid_namespace;
    d["born_ns"] = process.born_ns;
    d["blocks"] = process.blocks;
    d["bytes"] = process.bytes;
    nb::list waits;
    for (const observer::Wait& wait : process.waits)
        waits.append(of(wait));
    d["waits"] = waits;
    d["more_may_wait"] = process.more_may_wait;
    return d;
}

nb::dict of(const observer::Thing& thing) {
    nb::dict d;
    d["index"] = thing.index;
    d["generation"] = thing.gen;
    if (const Structure* structure = structure_of(thing.body)) {
        d["body"] = structure->name;
    } else {
        d["body"] = nb::none();  // an object
    }
    d["name_kind"] = thing.name_kind;
    if (thing.name_kind == 0) {
        d["name"] = nb::none();
    } else {
        d["name"] = text_of(thing.name);
    }
    d["bytes"] = thing.bytes;
    d["blocks"] = thing.blocks;
    d["parent"] = thing.parent;
    nb::list open_in;
    for (const u32 slot : thing.open_in)
        open_in.append(slot);
    d["open_in"] = open_in;
    d["readable"] = thing.seen.readable;
    nb::dict facts;
    for (const Observed::Fact& fact : thing.seen.facts)
        facts[fact.name] = fact.value;
    d["facts"] = facts;
    nb::list parts;
    for (const Observed::Part& part : thing.seen.parts) {
        nb::object slot = part.slot == kNoSlot ? nb::none() : nb::cast(part.slot);
        parts.append(nb::make_tuple(part.role, slot, part.passed, part.count, part.more));
    }
    d["parts"] = parts;
    if (thing.seen.typed) {
        const std::string& schema = thing.seen.schema;
        d["schema"] =
            nb::make_tuple(nb::bytes(schema.data(), schema.size()), thing.seen.schema_sound);
    } else {
        d["schema"] = nb::none();
    }
    return d;
}

nb::dict of(const observer::Pool& pool) {
    nb::dict d;
    d["id"] = nb::bytes(reinterpret_cast<const char*>(pool.id), sizeof pool.id);
    d["size"] = pool.heap.capacity;
    d["used"] = pool.heap.used;
    d["structure_bytes"] = pool.heap.body_bytes;
    d["committed"] = pool.heap.committed;
    d["blocks"] = pool.heap.blocks;
    d["max_processes"] = pool.max_processes;
    d["created_ns"] = pool.created_ns;
    d["creator_pid"] = pool.creator_pid;
    d["persistent"] = (pool.flags & kPersistent) != 0;
    d["memfd"] = (pool.flags & kMemfd) != 0;
    d["corrupt"] = pool.corrupt;
    d["truncated"] = pool.truncated;
    d["now_ns"] = pool.now_ns;
    d["own_namespace"] = pool.own_namespace;
    nb::list processes, things, referrers, locks;
    for (const observer::Process& each : pool.processes)
        processes.append(of(each));
    for (const observer::Thing& each : pool.things)
        things.append(of(each));
    for (const observer::Referrer& each : pool.referrers)
        referrers.append(nb::make_tuple(each.block, each.thing));
    for (const observer::Inner& each : pool.locks) {
        nb::object slot = each.slot == kNoSlot ? nb::none() : nb::cast(each.slot);
        locks.append(nb::make_tuple(each.name, slot, each.passed));
    }
    nb::list cells;
    for (const observer::Cell& each : pool.map.cells)
        cells.append(nb::make_tuple(each.used, each.thing, each.holder, each.holders));
    d["cell_bytes"] = pool.map.cell_bytes;
    d["cells"] = cells;
    d["processes"] = processes;
    d["things"] = things;
    d["referrers"] = referrers;
    d["locks"] = locks;
    return d;
}

nb::object of(const CopiedBlock& block) {
    nb::object bytes = nb::none();
    if (block.whole)
        bytes = nb::bytes(reinterpret_cast<const char*>(block.bytes.data()), block.bytes.size());
    return nb::make_tuple(block.length, bytes);
}

nb::dict of(const PeekedMessage& message) {
    nb::dict d;
    d["position"] = message.position;
    d["sound"] = message.sound;
    d["returned"] = message.returned;
    d["redeliveries"] = message.redeliveries;
    d["bytes"] =
        nb::bytes(reinterpret_cast<const char*>(message.bytes.data()), message.bytes.size());
    d["block"] = message.has_block ? of(message.block) : nb::none();
    nb::list children;
    for (const CopiedBlock& child : message.children)
        children.append(of(child));
    d["children"] = children;
    return d;
}

}  // namespace

PyObject* observe(Through way, const std::string& directory, const std::string& name) {
    observer::Pool pool;
    Failure why;
    Status s;
    {
        Outside outside;
        s = look_at_pool(
            way, directory, name, [&](Member& m) { pool = observer::observe(m); }, why, true);
    }
    if (s != Status::ok) return raise_for_pool(s, why, directory + "/" + name);
    return of(pool).release().ptr();
}

PyObject* peek_queue(Through way, const std::string& directory, const std::string& name, u32 index,
                     u32 gen, u32 most, u64 budget) {
    Peeked peeked;
    u64 id[2] = {};
    Failure why;
    Status s, found = Status::ok;
    {
        Outside outside;
        s = look_at_pool(
            way, directory, name,
            [&](Member& m) {
                id[0] = m.header().id[0];
                id[1] = m.header().id[1];
                found = peek(m, index, gen, most, budget, peeked);
            },
            why, true);
    }
    if (s != Status::ok) return raise_for_pool(s, why, directory + "/" + name);
    nb::dict d;
    d["id"] = nb::bytes(reinterpret_cast<const char*>(id), sizeof id);
    d["found"] = found == Status::ok ? "ok" : found == Status::stale ? "stale" : "corrupt";
    d["taken"] = peeked.taken;
    nb::list messages;
    for (const PeekedMessage& each : peeked.messages)
        messages.append(of(each));
    d["messages"] = messages;
    return d.release().ptr();
}

}  // namespace onecopy::py
