// A file that gets its name when it is complete, so that nobody ever sees it half made, and a maker
// that is killed leaves nothing.
//
//   unnamed --publish--> named                    where the file system has unnamed files
//   hidden  --publish--> named                    elsewhere: it has a hidden name until then
//
// The maker of a hidden file has the user's byte locked, shared, from right after it made the file.
// A hidden file on which nobody has that lock is a leftover.
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
    // Removes the hidden name, if it has one still. A child of a fork leaves it to its parent.
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
    PoolFd open_again(const os::PoolFile& file) const;

    // COMMIT. Fails with EEXIST rather than replace.
    bool publish(int number, const char* name) noexcept;
    // COMMIT. Only of a hidden file: takes the name from what has it.
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

// Takes the user's byte of a file that the caller has made just now, shared, so that no sweep
// removes it. False: there are no locks to be had, or it was swept before.
bool hold_new_file(int number, u64 user_byte) noexcept;

}  // namespace onecopy::storage

namespace onecopy {

// Says that a process is making this file: one whose name begins with `.onecopy-new-` is removed by
// the next use of the directory unless a process holds it so. False: it was removed just now.
inline bool hold_new_file(int fd) noexcept {
    return storage::hold_new_file(fd, kMemberByte);
}

}  // namespace onecopy
