// A file that gets its name when it is complete. So no process sees an incomplete file, and a
// process that is killed while it makes the file leaves nothing.
//
//|  unnamed --publish--> named                    where the file system has unnamed files
//|  hidden  --publish--> named                    elsewhere: it has a hidden name until then
//
// The process that makes a hidden file locks the user's byte, shared, right after it made the file.
// A hidden file on which no process has that lock is a leftover.
#pragma once
#include <string>

#include "layout/layout.hpp"
#include "os/files.hpp"
#include "storage/descriptors.hpp"

namespace onecopy::storage {

struct NewFileKind {
    const char* prefix;                       // of hidden names
    u32 mode;                                 // of a hidden file, from its first moment
    u64 user_byte;                            // that users of the file have locked, shared
    void (*remove_leftovers)(int directory);  // before a hidden file is made; may be null
};

class NewFile {
  public:
    explicit NewFile(const NewFileKind& kind) noexcept : kind_(kind) {}
    // Removes the hidden name, if the file still has one. In a forked child it does nothing.
    ~NewFile();
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;

    // Descriptor: Fd or PoolFd; empty on failure, with errno. The directory stays open.
    template <class Descriptor>
    Descriptor make(int directory) {
        directory_ = directory;
        Descriptor fd([&] { return make_unnamed(); });
        return fd || errno != EOPNOTSUPP ? std::move(fd) : make_hidden<Descriptor>(directory);
    }
    template <class Descriptor>
    Descriptor make_hidden(int directory) {
        directory_ = directory;
        if (kind_.remove_leftovers != nullptr) kind_.remove_leftovers(directory);
        for (int i = 0; i < kAttempts; ++i) {
            const std::string name = random_name();
            Descriptor fd([&] { return os::create_at(directory, name.c_str(), kind_.mode); });
            if (!fd && errno != EEXIST) return fd;
            if (fd && keep_hidden(fd.get(), name)) return fd;
        }
        return {};
    }
    // Another open file description of the file; empty on failure.
    PoolFd open_again(const os::SharedFile& file) const;

    // COMMIT. Fails with EEXIST if the name exists.
    bool publish(int number, const char* name) noexcept;
    // COMMIT. Only for a hidden file: replaces the file that has the name.
    bool replace(const char* name) noexcept;

  private:
    static constexpr int kAttempts = 16;
    int make_unnamed() const noexcept;
    std::string random_name() const;
    bool keep_hidden(int number, const std::string& name);

    const NewFileKind& kind_;
    int directory_ = -1;
    std::string hidden_;
    unsigned process_ = 0;
};

// Locks the user's byte of a file that the caller has just made, shared, so that no sweep removes
// the file. False: the file cannot be locked, or it was swept before.
bool hold_new_file(int number, u64 user_byte) noexcept;

}  // namespace onecopy::storage

namespace onecopy {

// Marks this file as one that a process is making. The next use of the directory removes a file
// whose name begins with `.onecopy-new-`, unless a process holds this mark. False: it was removed
// already.
inline bool hold_new_file(int fd) noexcept {
    return storage::hold_new_file(fd, kMemberByte);
}

}  // namespace onecopy
