#include "locks/event.hpp"

namespace onecopy {

struct Event::Body {
    static constexpr u64 kMagic = 0x31'74'6e'65'76'65'63'6fULL;  // "ocevent1"
    shm_atomic<u64> magic;
    alignas(64) shm_atomic<u32> word;
    EventCount changed;
    ONECOPY_SHARED_STRUCT(Body, magic, word, changed)
};

namespace {
constexpr u32 kSet = 1;
}  // namespace

Status Event::create(Member& m, WaitPolicy& p, Handle& out) noexcept {
    Allocated block;
    if (Status s = create_body(m, BodyKind::event, sizeof(Body), p, block); s != Status::ok)
        return s;
    finish_body(*reinterpret_cast<Body*>(block.data));
    out = handle_of(m, block.index);
    return Status::ok;
}

Status Event::open(Member& m, Handle h, Event& out) noexcept {
    Body* b = nullptr;
    if (Status s = open_body(m, h, BodyKind::event, sizeof(Body), b); s != Status::ok) return s;
    out.m_ = &m;
    out.b_ = b;
    return Status::ok;
}

Status Event::set() noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    u32 seen = b_->word.load();
    while (!(seen & kSet)) {
        if (!b_->word.cas(seen, (seen + 2) | kSet)) continue;  // COMMIT [event.word]
        break;
    }
    notify_all(b_->changed);  // also if it was set: the process that set it may have died before it
                              // woke anybody
    return Status::ok;
}

Status Event::clear() noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    b_->word.fetch_and(~kSet);  // COMMIT
    return Status::ok;
}

bool Event::is_set() const noexcept {
    return (b_->word.load() & kSet) != 0;
}

Status Event::wait(WaitPolicy& p) noexcept {
    if (Status s = usable(*m_); s != Status::ok) return s;
    const u32 now = b_->word.load();  // [event.word]
    if (now & kSet) return Status::ok;
    const u32 before = p.first_seen(now);
    auto released = [&] {
        const u32 word = b_->word.load();
        return (word & kSet) != 0 || word >> 1 != before >> 1;
    };
    return wait_for(
        b_->changed, {*m_, WaitPurpose::event, b_}, p,
        [&] {
            if (Status s = usable(*m_); s != Status::ok) return s;
            return released() ? Status::ok : Status::would_block;
        },
        [&] { return released() || usable(*m_) != Status::ok; }, [] {});
}

u64 Event::layout() noexcept {
    return Body::layout();
}

std::vector<std::string> Event::validate(Member& m, u32 index) {
    Event event;
    if (open(m, handle_of(m, index), event) == Status::ok) return {};
    return makes_no_sense("event " + std::to_string(index) + ": ");
}

void Event::observe(Member& m, u32 index, Observed& out) {
    Event event;
    if (open(m, handle_of(m, index), event) != Status::ok) return;
    out.readable = true;
    out.fact("is_set", event.is_set());
}

}  // namespace onecopy
