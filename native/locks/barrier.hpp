// Parties that wait for each other.
//
//|  Body (a block of kind barrier):
//|    0    line 0  magic, parties                                fixed
//|    64   line 1  lock, culprit, state, resets
//|    128  line 2  changed                                       event count
//|    192  waiting[P]  phase:16 count:16 | generation            Shares, with a count of two parts
//|
//|    state    phase:32 | kind:32 (filling, tripping, broken)
//
// An entry counts for the phase that it names, and for no other. So the table can be cleared after
// the phase has moved.
//
// COMMITS: arrive: the entry. trip and reset: state := (phase+1, filling). break: state := (phase,
// broken).
#pragma once
#include "locks/shares.hpp"

namespace onecopy {

class Barrier {
  public:
    static constexpr u32 kMostParties = 0xffff;
    static Status create(Member& m, u32 parties, WaitPolicy& p, Handle& out) noexcept;
    static Status open(Member& m, Handle h, Barrier& out) noexcept;

    struct Arrival {
        u32 phase = 0;
        u32 index = 0;       // how many arrived before
        bool trips = false;  // the last party: it runs the action, and then calls `trip`
        u32 tag = 0;         // of the member that arrived: a forked child has another one
    };
    // ok: counted in. broken. While the action of this phase runs, it waits for the next phase.
    Status arrive(WaitPolicy& p, Arrival& out) noexcept;
    // Waits until the phase of an arrival is over. ok. broken, also after a reset. timed_out,
    // would_block and interrupted break the barrier.
    Status wait(WaitPolicy& p, const Arrival& mine) noexcept;
    // As `wait`; but would_block: `p` has noted what it waits for, and the party still counts. Then
    // `attempt` again, or `give_up`.
    Status attempt(WaitPolicy& p, const Arrival& mine) noexcept;
    // Breaks the barrier, unless the phase is over. ok: it has tripped. broken.
    Status give_up(WaitPolicy& p, const Arrival& mine) noexcept;
    // broken: another party has broken or reset the barrier meanwhile.
    Status trip(WaitPolicy& p, const Arrival& mine) noexcept;
    Status abort(WaitPolicy& p) noexcept;
    Status reset(WaitPolicy& p) noexcept;

    u32 parties() const noexcept { return parties_; }
    u32 waiting() const noexcept;
    bool is_broken() const noexcept;
    u32 culprit() const noexcept;  // pid of the process whose death broke it; 0: none
    static std::vector<std::string> validate(Member& m, u32 index);
    static void observe(Member& m, u32 index, Observed& out);
    static u64 layout() noexcept;

  private:
    struct Body;
    Status enter(WaitPolicy& p) noexcept;
    u32 arrived(u32 phase) const noexcept;
    bool find_the_dead(u32 phase, bool ask_the_kernel) noexcept;
    void move_on(u32 phase, bool by_reset) noexcept;
    void break_it(u32 phase) noexcept;
    void count_out(u32 phase) noexcept;
    Status try_arrive(WaitPolicy& p, Arrival& out) noexcept;
    Status outcome(const Arrival& mine) const noexcept;
    Status await(WaitPolicy& p, const Arrival& mine) noexcept;
    Status stop_waiting(WaitPolicy& p, const Arrival& mine) noexcept;

    Member* m_ = nullptr;
    Body* b_ = nullptr;
    Shares waiting_;
    u32 parties_ = 0;
};

}  // namespace onecopy
