// The parts of the class Member, one file each. Functions that return an object return nullptr with
// an exception set if they fail; some may throw what the standard library throws.
#pragma once
#include <string>
#include <vector>

#include "bindings/objects.hpp"

namespace onecopy::py {

PyObject* make_hold(Held held, Handle handle) noexcept;
PyObject* strings(const std::vector<std::string>& all) noexcept;  // a list of str

// ---- member_names.cpp
PyObject* name_set(const PoolPtr& pool, u32 kind, PyObject* name, PyObject* value,
                   bool only_new) noexcept;
PyObject* name_get(const PoolPtr& pool, u32 kind, PyObject* name) noexcept;
PyObject* name_del(const PoolPtr& pool, u32 kind, PyObject* name) noexcept;
// `which` and the answer: bit k for kind k.
PyObject* name_del_kinds(const PoolPtr& pool, u32 which, PyObject* name) noexcept;
// How many names of things that nobody has were removed. None: of any name.
PyObject* name_del_unused(const PoolPtr& pool, u32 kind, PyObject* name) noexcept;
PyObject* name_list(const PoolPtr& pool, u32 kind);

// ---- member_view.cpp
PyObject* stats(Member& m) noexcept;
PyObject* holders(Member& m);
// (kind, name or None, bytes, blocks, processes) of each named thing and structure.
PyObject* things(Member& m);
PyObject* look_at(Through way, const std::string& directory, const std::string& name);
PyObject* validate_pool(Member& m);
PyObject* collect(Member& m) noexcept;
PyObject* trim_pool(Member& m) noexcept;

// ---- observer.cpp
PyObject* observe(Through way, const std::string& directory, const std::string& name);
PyObject* peek_queue(Through way, const std::string& directory, const std::string& name, u32 index,
                     u32 gen, u32 most, u64 budget);

// ---- files.cpp
PyObject* create_member(const CreateSpec& spec);
inline Through through(bool by_path) noexcept {
    return by_path ? Through::path : Through::pool_directory;
}
PyObject* open_member(Through way, const std::string& directory, const std::string& name,
                      bool readonly, WhenStale when_stale);
PyObject* flush_member(Member& m);
PyObject* unlink_member(Member& m);
std::string file_name(nb::handle object);  // of a str or path; throws
void bind_files(nb::module_& m);

}  // namespace onecopy::py
