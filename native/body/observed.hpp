// What an observer sees of a body: numbers, and what processes have to do with it. An observer is
// no member: it takes no lock and writes nothing. So what it reads may change meanwhile. Nothing
// here may be used for anything but showing it to people.
#pragma once
#include <string>
#include <vector>

#include "body/body.hpp"
#include "body/schema.hpp"

namespace onecopy {

struct Observed {
    struct Fact {
        const char* name;
        u64 value;
    };
    // What one process has to do with the body. What `count` and `more` say depends on the role.
    struct Part {
        const char* role;
        u32 slot;     // kNoSlot: no process
        bool passed;  // that owner of the slot is gone; another process may have the slot by now
        u64 count, more;
    };
    bool readable = false;  // the fixed fields make sense
    std::vector<Fact> facts;
    std::vector<Part> parts;
    bool typed = false;         // a queue or stream that has a type
    std::string schema;         // its text
    bool schema_sound = false;  // the text has the hash that it must have

    void fact(const char* name, u64 value) { facts.push_back({name, value}); }
    void part(const char* role, u32 slot, bool passed, u64 count = 0, u64 more = 0) {
        parts.push_back({role, slot, passed, count, more});
    }
    // A schema in shared memory. It is copied before its hash is computed. hash 0: there is none.
    void take_schema(std::string_view text, u64 hash) {
        typed = hash != 0;
        schema.assign(text);
        schema_sound = schema_hash(schema) == hash;
    }
    // Of a lock word, or of a tag; nothing if it is free.
    void owner(const Member& m, const char* role, u32 word, u64 count = 0, u64 more = 0) {
        const u32 tag = word & ~kWaiters;
        if (tag == 0) return;
        const u32 slot = tag_slot(tag);
        part(role, slot < m.geo().max_processes ? slot : kNoSlot, m.passed(tag), count, more);
    }
};

}  // namespace onecopy
