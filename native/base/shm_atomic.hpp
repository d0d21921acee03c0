// shm_atomic: the one type through which shared memory is written.
//
// Every store, exchange, CAS and fetch-op to a pool is one of its functions; bulk bytes go through
// copy_in. So a fault build can number them and kill the process after the N-th: that is how the
// crash campaign enumerates deaths. A normal build keeps the order of the stores
// (base/crash_point.hpp).
//
// Memory order: `store_release` pairs with `load_acquire` under a label that stands at both ends,
// as in "[queue.tail]"; tools/native_labels.py checks that. Read-modify-writes are sequentially
// consistent. Some protocols need that: each side stores one variable and then loads the other
// (holder bits and state, commit and sleepers). On x86 they cost the same.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/crash_point.hpp"

namespace onecopy {

// After a store of a word. In a normal build nothing: the word is volatile.
inline void after_store() noexcept {
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    crash_point();
#endif
}

template <class T>
class shm_atomic {
    static_assert(std::is_trivially_copyable_v<T> && std::atomic<T>::is_always_lock_free);

  public:
    T load_relaxed() const noexcept { return value_.load(std::memory_order_relaxed); }
    T load_acquire() const noexcept { return value_.load(std::memory_order_acquire); }
    T load() const noexcept { return value_.load(std::memory_order_seq_cst); }

    void store_relaxed(T v) noexcept {
        before_store();
        value_.store(v, std::memory_order_relaxed);
        after_store();
    }
    void store_release(T v) noexcept {
        before_store();
        value_.store(v, std::memory_order_release);
        after_store();
    }
    void store(T v) noexcept {
        before_store();
        value_.store(v, std::memory_order_seq_cst);
        after_store();
    }

    T exchange(T v) noexcept {
        before_store();
        T old = value_.exchange(v, std::memory_order_seq_cst);
        after_store();
        return old;
    }
    bool cas(T& expected, T desired) noexcept {
        before_store();
        bool done = value_.compare_exchange_strong(expected, desired, std::memory_order_seq_cst);
        if (done) after_store();
        return done;
    }
    T fetch_add(T v) noexcept {
        before_store();
        T old = value_.fetch_add(v, std::memory_order_seq_cst);
        after_store();
        return old;
    }
    T fetch_or(T v) noexcept {
        before_store();
        T old = value_.fetch_or(v, std::memory_order_seq_cst);
        after_store();
        return old;
    }
    T fetch_and(T v) noexcept {
        before_store();
        T old = value_.fetch_and(v, std::memory_order_seq_cst);
        after_store();
        return old;
    }
    // The kernel needs the plain address (futex).
    std::uint32_t* word() noexcept
        requires(sizeof(T) == 4)
    {
        return const_cast<std::uint32_t*>(reinterpret_cast<volatile std::uint32_t*>(&value_));
    }

  private:
    // Volatile: the compiler keeps the order of all stores (base/crash_point.hpp).
    volatile std::atomic<T> value_;
};

inline void fence() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
}

// Bulk bytes into shared memory. The fault build tries a death in the middle too: no reader may
// depend on a part of them.
inline void copy_in(void* shared, const void* from, std::size_t n) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);  // behind all that was stored before
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    if (const std::size_t half = n / 2; half != 0) {
        std::memcpy(shared, from, half);
        crash_point();
    }
#endif
    if (n != 0) std::memcpy(shared, from, n);
    crash_point();
}

// Bytes that another process may overwrite while this one reads them (a lossy stream). They are
// read word by word, each word atomically. So a torn read is a wrong value, which the sequence
// check discards, and no data race. `n` is rounded up to whole words.
inline void copy_out_racy(void* to, const void* shared, std::size_t n) noexcept {
    auto* dst = static_cast<std::uint64_t*>(to);
    auto* src = static_cast<const std::uint64_t*>(shared);
    for (std::size_t i = 0; i < (n + 7) / 8; ++i)
        dst[i] = __atomic_load_n(src + i, __ATOMIC_RELAXED);
}
inline void copy_in_racy(void* shared, const void* from, std::size_t n) noexcept {
    auto* dst = static_cast<std::uint64_t*>(shared);
    auto* src = static_cast<const unsigned char*>(from);
    auto put = [&](std::size_t at, std::size_t bytes) noexcept {
        std::uint64_t w = 0;
        std::memcpy(&w, src + at, bytes);
        __atomic_store_n(dst + at / 8, w, __ATOMIC_RELAXED);
    };
    const std::size_t whole = n / 8 * 8;
    for (std::size_t at = 0; at < whole; at += 8)
        put(at, 8);  // of known size: one move each
    if (whole != n) put(whole, n - whole);
    crash_point();
}

}  // namespace onecopy
