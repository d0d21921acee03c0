// Keys of shared dicts: Python objects to bytes that are the same in every process, and back.
//
//|  None, bool, int, float, str, bytes, tuples of them     exact types only
//
// Equal keys (1, 1.0, True) have the same canonical bytes: those of the int. A key that is equal to
// an int and is none has its own form behind them. All nans are one key.
#pragma once
#include "bindings/numpy_api.hpp"
#include "containers/dict.hpp"

namespace onecopy::py {

class Key {
  public:
    Key() = default;
    Key(const Key&) = delete;
    Key& operator=(const Key&) = delete;

    // False with TypeError or ValueError set.
    bool encode(PyObject* object) noexcept;
    const DictKey& get() const noexcept { return key_; }
    // After `encode` has failed: whether the object simply is no key, so that no dict has it; then
    // the exception is cleared. False if it cannot be hashed (TypeError), or may be equal to a key:
    // a number or a string of another type.
    bool is_absent(PyObject* object) noexcept;

  private:
    bool add(PyObject* object, bool canonical, int depth) noexcept;
    bool add_int(PyObject* number) noexcept;
    bool add_run(unsigned char tag, const char* from, Py_ssize_t n) noexcept;
    bool refuse(PyObject* object) noexcept;
    bool put(const void* from, std::size_t n) noexcept;

    DictKey key_;
    std::size_t size_ = 0;
    bool has_other_form_ = false;
    bool equals_no_key_ = false;
    unsigned char small_[128];
    std::vector<unsigned char> large_;
};

// The object that was a key; nullptr with an exception set. `word`: its length, with kTwoForms.
PyObject* decode_key(const unsigned char* bytes, u32 word) noexcept;

}  // namespace onecopy::py
