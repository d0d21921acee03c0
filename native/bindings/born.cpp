// numpy's memory handler: large arrays that numpy makes lie in a pool.
//
// The functions of numpy's default handler are replaced, once, in its own struct. They are never
// put back, because arrays keep the handler that they were made with. Nothing here needs the GIL,
// and nothing calls Python, but what `bind_born` offers.
#include "bindings/born.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "bindings/member.hpp"
#include "heap/heap.hpp"
#include "os/forks.hpp"

namespace onecopy::py {
namespace {

constexpr std::size_t kOff = ~std::size_t{0};
constexpr std::int64_t kLongestWait = 20'000'000;  // ns, for the heap's lock
constexpr std::int64_t kWithoutTry = 10'000'000;   // ns without another try

struct BornBlock {
    std::shared_ptr<Member> member;
    u32 index;
    std::size_t length;
};

struct Births {
    std::mutex mutex;                            // nothing waits while it is held; a fork takes it
    std::map<std::uintptr_t, BornBlock> blocks;  // by address
    std::weak_ptr<Member> where;                 // the pool that is switched on
    u64 made = 0, fell_back = 0, skipped = 0, bytes = 0;
};
// Never destroyed: arrays may go after static destructors ran. Made by `bind_born`.
Births* all_births = nullptr;
Births& births() noexcept {
    return *all_births;
}

// What the functions look at first. The range covers every block that was ever in the table.
std::atomic<std::size_t> threshold{kOff};
std::atomic<std::uintptr_t> lowest{~std::uintptr_t{0}}, highest{0};
std::atomic<std::int64_t> no_try_until{0};

PyDataMemAllocator original;  // numpy's own

bool in_range(const void* memory) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(memory);
    return at >= lowest.load(std::memory_order_relaxed) &&
           at < highest.load(std::memory_order_relaxed);
}

// The block of an address, at its beginning or inside. With the mutex.
auto find(std::uintptr_t at) noexcept {
    auto& blocks = births().blocks;
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return blocks.end();
    --next;
    return at - next->first < next->second.length ? next : blocks.end();
}

void fell_back(bool skipped) noexcept {
    std::lock_guard guard(births().mutex);
    ++births().fell_back;
    if (skipped) ++births().skipped;
}

// Notes a block that this process holds once. False: there is no memory for that.
bool note(std::uintptr_t at, BornBlock block) noexcept try {
    std::lock_guard guard(births().mutex);
    const std::size_t length = block.length;
    births().blocks.emplace(at, std::move(block));
    lowest.store(std::min(lowest.load(std::memory_order_relaxed), at), std::memory_order_relaxed);
    highest.store(std::max(highest.load(std::memory_order_relaxed), at + length),
                  std::memory_order_relaxed);
    ++births().made;
    births().bytes += length;
    return true;
} catch (const std::bad_alloc&) {
    return false;
}

// nullptr: not now. Ordinary memory, then.
void* take(std::size_t size) noexcept {
    const std::int64_t now = os::monotonic_ns();
    if (now < no_try_until.load(std::memory_order_relaxed)) {
        fell_back(true);
        return nullptr;
    }
    std::shared_ptr<Member> member;
    {
        std::lock_guard guard(births().mutex);
        member = births().where.lock();
    }
    Allocated block;
    WaitPolicy briefly(now + kLongestWait);
    const Status s = member == nullptr
                         ? Status::closed
                         : allocate(*member, BlockSpec{.bytes = size}, briefly, block);
    // Full, or a stopped process has the heap's lock: not every array waits for that.
    if (s == Status::no_memory || s == Status::timed_out)
        no_try_until.store(os::monotonic_ns() + kWithoutTry, std::memory_order_relaxed);
    if (s == Status::ok) {
        Member& m = *member;
        if (note(reinterpret_cast<std::uintptr_t>(block.data),
                 {std::move(member), block.index, size}))
            return block.data;
        UnboundedWait wait;
        drop(m, block.index, wait);
    }
    fell_back(false);
    return nullptr;
}

void* born_malloc(void* context, std::size_t size) {
    if (size >= threshold.load(std::memory_order_relaxed)) [[unlikely]] {
        if (void* memory = take(size)) return memory;
    }
    return original.malloc(context, size);
}

// Never from the pool: so numpy asks for memory of arrays that contain pointers.
void* born_calloc(void* context, std::size_t count, std::size_t each) {
    return original.calloc(context, count, each);
}

// Takes a block out of the table. False: it is none of ours.
bool take_out(const void* memory, BornBlock& out) noexcept {
    if (!in_range(memory)) return false;
    std::lock_guard guard(births().mutex);
    auto& blocks = births().blocks;
    const auto found = blocks.find(reinterpret_cast<std::uintptr_t>(memory));
    if (found == blocks.end()) return false;
    out = std::move(found->second);
    births().bytes -= out.length;
    blocks.erase(found);
    return true;
}

void born_free(void* context, void* memory, std::size_t size) {
    BornBlock block{};
    if (!take_out(memory, block)) [[likely]]
        return original.free(context, memory, size);
    UnboundedWait wait;
    drop(*block.member, block.index, wait);
}

void* born_realloc(void* context, void* memory, std::size_t size) {
    std::size_t length = 0;
    if (in_range(memory)) {
        std::lock_guard guard(births().mutex);
        const auto found = births().blocks.find(reinterpret_cast<std::uintptr_t>(memory));
        if (found != births().blocks.end()) length = found->second.length;
    }
    if (length == 0) return original.realloc(context, memory, size);
    void* moved = born_malloc(context, size);
    if (moved == nullptr) return nullptr;
    std::memcpy(moved, memory, std::min(size, length));
    born_free(context, memory, length);
    return moved;
}

bool install() noexcept {
    if (original.malloc != nullptr) return true;
    auto* theirs = static_cast<PyDataMem_Handler*>(
        PyCapsule_GetPointer(PyDataMem_DefaultHandler, "mem_handler"));
    if (theirs == nullptr) return false;
    original = theirs->allocator;
    theirs->allocator.malloc = born_malloc;
    theirs->allocator.calloc = born_calloc;
    theirs->allocator.realloc = born_realloc;
    theirs->allocator.free = born_free;
    return true;
}

void before_fork() noexcept {
    births().mutex.lock();
}
void after_fork() noexcept {
    births().mutex.unlock();
}

// Lets numpy take what has `bytes` or more from the pool of a member. None: from no pool.
PyObject* bear_in(PyObject* member, std::size_t bytes) noexcept {
    MemberObject* m = nullptr;
    if (member != Py_None && (m = as_member(member)) == nullptr) return nullptr;
    std::lock_guard guard(births().mutex);
    if (m != nullptr && !install()) return nullptr;
    births().where.reset();
    if (m != nullptr) births().where = m->pool->member;
    no_try_until.store(0, std::memory_order_relaxed);
    threshold.store(m == nullptr ? kOff : bytes, std::memory_order_relaxed);
    return Py_NewRef(Py_None);
}

PyObject* born_counts() noexcept {
    std::lock_guard guard(births().mutex);
    const Births& b = births();
    return Py_BuildValue("{sKsnsKsKsK}", "made", static_cast<unsigned long long>(b.made), "live",
                         static_cast<Py_ssize_t>(b.blocks.size()), "live_bytes",
                         static_cast<unsigned long long>(b.bytes), "fell_back",
                         static_cast<unsigned long long>(b.fell_back), "skipped",
                         static_cast<unsigned long long>(b.skipped));
}

// A lease on the block that an array's memory lies in. None: there is none.
PyObject* born_lease(PyObject* array) noexcept try {
    if (!PyArray_Check(array)) return Py_NewRef(Py_None);
    const void* memory = PyArray_DATA(reinterpret_cast<PyArrayObject*>(array));
    if (!in_range(memory)) return Py_NewRef(Py_None);
    std::shared_ptr<Member> member;
    u32 index = 0;
    {
        std::lock_guard guard(births().mutex);
        const auto found = find(reinterpret_cast<std::uintptr_t>(memory));
        if (found == births().blocks.end()) return Py_NewRef(Py_None);
        member = found->second.member;
        index = found->second.index;
    }
    const PoolPtr pool = pool_of(std::move(member));
    hold_again(pool->core(), index);
    return reinterpret_cast<PyObject*>(make_lease(Held(pool, index), false));
} catch (const std::bad_alloc&) {
    return PyErr_NoMemory();
}

}  // namespace

bool find_born(const Member& m, const unsigned char* memory, u64 length, u32& index) noexcept {
    if (!in_range(memory)) return false;
    std::lock_guard guard(births().mutex);
    const auto at = reinterpret_cast<std::uintptr_t>(memory);
    const auto found = find(at);
    if (found == births().blocks.end() || found->second.member.get() != &m ||
        length > found->second.length - (at - found->first))
        return false;
    index = found->second.index;
    return true;
}

void give_to_lease(PyArrayObject* array) noexcept {
    auto* fields = reinterpret_cast<PyArrayObject_fields*>(array);
    if ((fields->flags & NPY_ARRAY_OWNDATA) == 0 || fields->base != nullptr ||
        fields->mem_handler == nullptr || !in_range(fields->data))
        return;
    PyObject* lease = born_lease(reinterpret_cast<PyObject*>(array));
    if (lease == nullptr) PyErr_Clear();
    BornBlock block{};
    if (lease == nullptr || lease == Py_None || !take_out(fields->data, block)) {
        Py_XDECREF(lease);
        return;
    }
    fields->base = lease;
    fields->flags &= ~NPY_ARRAY_OWNDATA;
    Py_CLEAR(fields->mem_handler);
    UnboundedWait wait;
    drop(*block.member, block.index, wait);  // the lease has a hold of its own
}

void bind_born(nanobind::module_& m) {
    namespace nb = nanobind;
    all_births = new Births;
    static constexpr os::ForkSteps steps{before_fork, after_fork, after_fork};
    os::run_around_forks(steps);
    m.def(
        "bear_in",
        [](nb::handle member, std::size_t bytes) { return result(bear_in(member.ptr(), bytes)); },
        nb::arg("member").none(), nb::arg("nbytes"),
        nb::sig("def bear_in(member: Member | None, nbytes: int) -> None"),
        "Let numpy take the memory of large arrays from a pool. None: from no pool.");
    m.def(
        "born_counts", []() { return result(born_counts()); },
        nb::sig("def born_counts() -> dict[str, int]"),
        "How many arrays numpy has made in pools, how many are there, and how often it could not.");
    m.def(
        "born_lease", [](nb::handle array) { return result(born_lease(array.ptr())); },
        nb::arg("array"), nb::sig("def born_lease(array: object) -> Lease | None"),
        "A lease on the block in which numpy itself made an array. None: it did not.");
    m.def(
        "address",
        [](nb::handle array) {
            if (!PyArray_Check(array.ptr())) throw nb::type_error("address wants an array");
            auto* a = reinterpret_cast<PyArrayObject*>(array.ptr());
            return reinterpret_cast<std::uintptr_t>(PyArray_DATA(a));
        },
        nb::arg("array"), nb::sig("def address(array: object) -> int"),
        "The address of an array's first element in this process. (`__array_interface__` of numpy\n"
        "2.4 ends the process if there is no memory.)");
    m.def(
        "seal", [](nb::handle array) { seal(array.ptr()); }, nb::arg("array"),
        nb::sig("def seal(array: object) -> None"),
        "Make an array of a pool read-only in this process, and the arrays that it is a view of.");
}

}  // namespace onecopy::py
