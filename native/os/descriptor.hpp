// A descriptor that its owner closes.
#pragma once
#include <cerrno>
#include <utility>

namespace onecopy::os {

void close_descriptor(int number) noexcept;
// The number is the other one's file from now on (dup2).
void replace_descriptor(int number, int by) noexcept;

class Descriptor {
  public:
    Descriptor() noexcept = default;
    explicit Descriptor(int number) noexcept : number_(number) {}
    Descriptor(Descriptor&& o) noexcept : number_(std::exchange(o.number_, -1)) {}
    Descriptor& operator=(Descriptor&& o) noexcept {
        if (this != &o) {
            close();
            number_ = std::exchange(o.number_, -1);
        }
        return *this;
    }
    ~Descriptor() { close(); }
    explicit operator bool() const noexcept { return number_ >= 0; }
    int number() const noexcept { return number_; }
    int release() noexcept { return std::exchange(number_, -1); }
    // Keeps errno.
    void close() noexcept {
        const int saved = errno;
        if (number_ >= 0) close_descriptor(std::exchange(number_, -1));
        errno = saved;
    }

  private:
    int number_ = -1;
};

}  // namespace onecopy::os
