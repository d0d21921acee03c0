// Waits without a thread of their own (docs/design/0021-asyncio.md). A task that finds nothing
// notes the word on which a thread would sleep. One native thread per process sleeps on the words
// of all notes, 127 for each such thread. When a word changes, the note's task is notified through
// the sink of its event loop, and tries again.
//
//|  note    off ──note()──> waiting ──the word changes──> fired ──take()──> off, and the task tries
//|
//|  group   all notes on one word. Of those that want one wake each (`one`), the first gets it: it
//|          is the active note. The others stay, and the word is not watched, until that note
//|            notes again       nothing is left: the word is watched again, this note is first
//|            is done           there may be more: the next note becomes the active one
//|            is cancelled      the same; if there is no next note, the wake is given back to the
//|                              word, for another process
//|          Notes that are not `one` are notified together.
//
// Shared memory: a note changes the sleepers' bit as a thread does that is about to sleep. Nothing
// names the process, so nothing is left of one that dies.
#pragma once
#include <cstddef>
#include <cstdint>

#include "layout/layout.hpp"
#include "sync/wait_policy.hpp"

namespace onecopy {

class Liveness;
class Watcher;
class Note;
struct NoteGroup;

// A list through the notes themselves: adding needs no memory.
struct NoteList {
    Note* first = nullptr;
    Note* last = nullptr;
    bool empty() const noexcept { return first == nullptr; }
    void push_back(Note& n) noexcept;
    void push_front(Note& n) noexcept;
    void remove(Note& n) noexcept;
};

// Where the notes of one event loop arrive. Its descriptor is readable while there are any.
class Sink {
  public:
    Sink() noexcept;
    ~Sink();
    Sink(const Sink&) = delete;
    Sink& operator=(const Sink&) = delete;
    int descriptor() const noexcept { return fd_; }
    // The next note that was notified, and nullptr after the last one: then it is not readable.
    Note* take() noexcept;
    // It is readable until the next `take`, although nothing is there.
    void ring() noexcept;

  private:
    friend class Watcher;
    int fd_;
    NoteList told_;
};

// One wait of one task. Its owner calls from one thread at a time.
class Note {
  public:
    // `one`: every wait on the same word waits for the same, and a wake is for one of them.
    Note(Sink& sink, bool one) noexcept : one_(one), sink_(&sink) {}
    ~Note() { end(true); }
    Note(const Note&) = delete;
    Note& operator=(const Note&) = delete;

    // `for_all`: others may wait on this word for something else, so all are notified together.
    void put(Liveness& me, shm_atomic<u32>& word, WordKind kind, u32 seen, bool soon,
             bool for_all) noexcept;
    // The wait is over. `unused`: its wake, if it got one, was for nobody.
    void end(bool unused) noexcept;
    bool is_on() const noexcept { return noted_; }
    // No memory or no thread for it: it will never be notified.
    bool has_failed() const noexcept { return failed_; }
    // Before an attempt.
    void clear() noexcept { noted_ = failed_ = false; }
    bool had_a_nap() noexcept;
    bool has_turn() noexcept;
    u32 first_seen(u32 now) noexcept;
    void* owner = nullptr;

  private:
    friend class Watcher;
    friend struct NoteList;
    enum class At : std::uint8_t { off, waiting, fired };
    const bool one_;
    bool all_ = false;  // this stay: told together with others, although `one_`
    bool noted_ = false;
    bool failed_ = false;
    bool nap_ = false;
    bool turn_ = false;  // to look for dead processes of the pool
    bool remembers_ = false;
    bool woken_ = false;  // got a wake, and has neither used nor returned it
    At at_ = At::off;
    WordKind kind_ = WordKind::event;
    u32 seen_ = 0;
    u32 first_ = 0;            // what the first attempt saw
    std::int64_t nap_ns_ = 0;  // how long its next nap is; 0: as long as a first one
    Sink* sink_;
    shm_atomic<u32>* word_ = nullptr;
    NoteGroup* baton_ = nullptr;
    NoteGroup* group_ = nullptr;
    Watcher* watcher_ = nullptr;  // of the process that noted: a forked child has another
    Note* before_ = nullptr;      // in the list of a group or a sink
    Note* after_ = nullptr;
    Note* older_ = nullptr;  // in the list of all
    Note* newer_ = nullptr;
};

// A range of memory is about to be unmapped: nothing here touches it any more.
void forget_notes(const void* from, std::size_t length) noexcept;
// All waits on words in it try again, because the pool was left.
void tell_notes(const void* from, std::size_t length) noexcept;

}  // namespace onecopy
