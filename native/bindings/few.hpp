// A sequence with room for a few elements in the object itself; more of them need memory.
#pragma once
#include "bindings/numpy_api.hpp"

#include <cstddef>
#include <new>
#include <utility>

namespace onecopy::py {

template <class T, std::size_t N>
class Few {
  public:
    Few() noexcept : items_(reinterpret_cast<T*>(small_)) {}
    Few(const Few&) = delete;
    Few& operator=(const Few&) = delete;
    ~Few() {
        for (std::size_t i = 0; i < size_; ++i)
            items_[i].~T();
        if (!is_small()) PyMem_Free(items_);
    }

    // False with MemoryError set.
    bool add(T item) noexcept {
        if (size_ == room_ && !grow()) return false;
        new (items_ + size_++) T(std::move(item));
        return true;
    }
    void drop() noexcept { items_[--size_].~T(); }  // the last one
    std::size_t size() const noexcept { return size_; }
    T& operator[](std::size_t i) noexcept { return items_[i]; }
    const T& operator[](std::size_t i) const noexcept { return items_[i]; }
    T& back() noexcept { return items_[size_ - 1]; }
    T* begin() noexcept { return items_; }
    T* end() noexcept { return items_ + size_; }

  private:
    bool is_small() const noexcept {
        return items_ == reinterpret_cast<const T*>(static_cast<const void*>(small_));
    }
    bool grow() noexcept {
        auto* more = static_cast<T*>(PyMem_Malloc(2 * room_ * sizeof(T)));
        if (more == nullptr) {
            PyErr_NoMemory();
            return false;
        }
        for (std::size_t i = 0; i < size_; ++i) {
            new (more + i) T(std::move(items_[i]));
            items_[i].~T();
        }
        if (!is_small()) PyMem_Free(items_);
        items_ = more;
        room_ *= 2;
        return true;
    }

    T* items_;
    std::size_t size_ = 0, room_ = N;
    alignas(T) unsigned char small_[N * sizeof(T)];
};

}  // namespace onecopy::py
