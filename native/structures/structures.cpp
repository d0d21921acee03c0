// The one place that knows all structures.
#include "body/structures.hpp"

#include <array>

#include "containers/dict.hpp"
#include "containers/list.hpp"
#include "directory/directory.hpp"
#include "frames/frames.hpp"
#include "locks/barrier.hpp"
#include "locks/condition.hpp"
#include "locks/event.hpp"
#include "locks/mutex.hpp"
#include "locks/rwlock.hpp"
#include "locks/semaphore.hpp"
#include "queue/queue.hpp"
#include "stream/stream.hpp"

namespace onecopy {
namespace {

template <class S>
constexpr Structure with_repair(BodyKind kind, const char* name) noexcept {
    return {kind, name, &S::layout, &S::validate, &S::repair, &S::observe};
}

template <class S>
constexpr Structure without_repair(BodyKind kind, const char* name) noexcept {
    static_assert(!requires { &S::repair; }, "it has a `repair`: use with_repair");
    return {kind, name, &S::layout, &S::validate, nullptr, &S::observe};
}

constexpr std::array kStructures = {
    with_repair<Queue>(BodyKind::queue, "queue"),
    without_repair<Stream>(BodyKind::stream, "stream"),
    with_repair<Frames>(BodyKind::frames, "frames"),
    without_repair<Mutex>(BodyKind::mutex, "lock"),
    without_repair<RwLock>(BodyKind::rwlock, "rwlock"),
    with_repair<Semaphore>(BodyKind::semaphore, "semaphore"),
    without_repair<Event>(BodyKind::event, "event"),
    without_repair<Condition>(BodyKind::condition, "condition"),
    without_repair<Barrier>(BodyKind::barrier, "barrier"),
    with_repair<List>(BodyKind::list, "list"),
    with_repair<Dict>(BodyKind::dict, "dict"),
};

constexpr bool every_kind_stands_once() {
    for (std::size_t i = 0; i < kStructures.size(); ++i) {
        for (std::size_t k = 0; k < i; ++k)
            if (kStructures[i].kind == kStructures[k].kind) return false;
    }
    return true;
}
static_assert(every_kind_stands_once());

}  // namespace

std::span<const Structure> structures() noexcept {
    return kStructures;
}

const Structure* structure_of(BodyKind kind) noexcept {
    for (const Structure& each : kStructures)
        if (each.kind == kind) return &each;
    return nullptr;
}

void format_names(Member& m) noexcept {
    directory::format(m);
}

Findings validate_names(Member& m) {
    return directory::validate(m);
}

u64 layout_hash() noexcept {
    u64 h = fixed_layout();
    for (const Structure& each : kStructures)
        h = add_to_layout(add_to_layout(h, static_cast<u64>(each.kind)), each.layout());
    return h;
}

}  // namespace onecopy
