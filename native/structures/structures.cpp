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

// A structure without `repair` says so by the null.
template <class S>
constexpr Structure entry(BodyKind kind) noexcept {
    Structure made{kind, &S::layout, &S::validate, nullptr, &S::observe};
    if constexpr (requires { &S::repair; }) made.repair = &S::repair;
    return made;
}

constexpr std::array kStructures = {
    entry<Queue>(BodyKind::queue),     entry<Stream>(BodyKind::stream),
    entry<Frames>(BodyKind::frames),   entry<Mutex>(BodyKind::mutex),
    entry<RwLock>(BodyKind::rwlock),   entry<Semaphore>(BodyKind::semaphore),
    entry<Event>(BodyKind::event),     entry<Condition>(BodyKind::condition),
    entry<Barrier>(BodyKind::barrier), entry<List>(BodyKind::list),
    entry<Dict>(BodyKind::dict),
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
