// Descriptors while a pool is made, opened, swept or left.
#pragma once
#include <unistd.h>

#include <cerrno>
#include <concepts>
#include <mutex>
#include <utility>

#include "segment/registry.hpp"

namespace onecopy {

// Owns a descriptor, or nothing. A child of a fork must not keep a copy: the locks on it belong to
// the open file description, so they would last as long as the child. So each one is on a list from
// the moment it is opened, and the fork handler closes it in the child, where this owns nothing
// then.
class Fd {
  public:
    Fd() noexcept = default;
    // `open` gives the descriptor, or -1 with errno. A fork waits for it, so it must not wait
    // itself.
    template <std::invocable Open>
    explicit Fd(Open open) noexcept {
        follow_forks();
        std::lock_guard guard(pools_mutex());
        enlist(open());
    }
    ~Fd() { reset(); }
    Fd(Fd&& other) noexcept { *this = std::move(other); }
    Fd& operator=(Fd&& other) noexcept {
        if (this == &other) return *this;
        reset();
        std::lock_guard guard(pools_mutex());
        enlist(other.release_locked());
        return *this;
    }
    int get() const noexcept { return number_; }
    explicit operator bool() const noexcept { return number_ >= 0; }
    void reset() noexcept {
        if (number_ < 0) return;
        const int saved = errno;
        std::lock_guard guard(pools_mutex());
        if (const int number = release_locked(); number >= 0) close(number);
        errno = saved;
    }

    // ---- with pools_mutex held
    int release_locked() noexcept {
        const int number = std::exchange(number_, -1);
        if (number >= 0) {
            (previous_ == nullptr ? first_ : previous_->next_) = next_;
            if (next_ != nullptr) next_->previous_ = previous_;
            previous_ = next_ = nullptr;
        }
        return number;
    }
    void adopt_locked(int number) noexcept { enlist(number); }  // this owns nothing yet
    // In the child: the owners may be on the stacks of threads that do not exist here, so the list
    // is not looked at again.
    static void close_all_in_child() noexcept {
        for (Fd* fd = std::exchange(first_, nullptr); fd != nullptr;) {
            close(std::exchange(fd->number_, -1));
            Fd* next = std::exchange(fd->next_, nullptr);
            fd->previous_ = nullptr;
            fd = next;
        }
    }

  private:
    void enlist(int number) noexcept {
        number_ = number;
        if (number < 0) return;
        next_ = first_;
        if (next_ != nullptr) next_->previous_ = this;
        first_ = this;
    }
    int number_ = -1;
    Fd *previous_ = nullptr, *next_ = nullptr;
    static inline Fd* first_ = nullptr;
};

}  // namespace onecopy
