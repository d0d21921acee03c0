// Deaths around the file of a pool: creating, opening, leaving, removing. The kernel's state counts
// here: names, byte locks, descriptors.
#pragma once
#include <dirent.h>

#include <string>

#include "segment/file.hpp"
#include "tests/crash_operations.hpp"

#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS

namespace onecopy::campaign {

using Joined = std::shared_ptr<Member>;

struct FileCase {
    const char* name;
    bool survivor;                       // another process made the pool and is in it throughout
    void (*ready)(bool memfd, Joined&);  // by the actor, before its crash points count
    void (*act)(bool memfd, Joined&);
    bool may_lose_name = false;  // the name may be gone, although there is a survivor
    bool persistent = false;
};

inline std::string& directory_of_world() {
    static std::string it;
    return it;
}
inline Status make(bool memfd, Joined& out, bool persistent = false) {
    install_recovery();
    Failure why;
    UnboundedWait wait;
    const Status s = create_pool({.directory = directory_of_world(),
                                  .name = "p",
                                  .capacity = kMiB,
                                  .max_processes = 4,
                                  .persistent = persistent,
                                  .memfd = memfd},
                                 out, why, wait);
    if (s != Status::ok && s != Status::exists)
        std::fprintf(stderr, "create: %s, errno %d\n", why.what.c_str(), why.error);
    return s;
}
inline Status open_it(Joined& out) {
    install_recovery();
    Failure why;
    UnboundedWait wait;
    return open_pool(Through::pool_directory, directory_of_world(), "p", WhenStale::remove, out,
                     why, wait);
}
inline Status unlink_it(Member& m) {
    Failure why;
    UnboundedWait wait;
    return unlink_pool(m, why, wait);
}
inline PoolFileState sweep_it() {
    UnboundedWait wait;
    return sweep_pool(Through::pool_directory, directory_of_world(), "p", true, wait);
}
inline void no_file(bool, Joined&) {}
inline void made(bool memfd, Joined& pool) {
    CHECK(make(memfd, pool) == Status::ok);
}
inline void made_to_stay(bool memfd, Joined& pool) {
    CHECK(make(memfd, pool, true) == Status::ok);
}
inline void opened(bool, Joined& pool) {
    CHECK(open_it(pool) == Status::ok);
}
inline void leave_it(bool, Joined& pool) {
    leave_pool(*pool);
}
inline void stale_pool(bool memfd, Joined&) {
    const pid_t child = fork();
    if (child == 0) {
        Joined pool;
        made(memfd, pool);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
}

inline const FileCase kFileCases[] = {
    {"create", false, no_file, made},
    {"create in the place of a dead one", false, stale_pool, made},
    {"create what exists", true, no_file,
     [](bool memfd, Joined& pool) { CHECK(make(memfd, pool) == Status::exists); }},
    {"open", true, no_file, opened},
    {"open a dead one", false, stale_pool,
     [](bool, Joined& pool) { CHECK(open_it(pool) == Status::no_entry); }},
    {"leave", true, opened, leave_it},
    {"leave as the last one", false, made, leave_it},
    {"leave one that stays", false, made_to_stay, leave_it, false, true},
    {"unlink", true, opened, [](bool, Joined& pool) { CHECK(unlink_it(*pool) == Status::ok); },
     true},
    {"sweep a dead one", false, stale_pool,
     [](bool, Joined&) { CHECK(sweep_it() == PoolFileState::removed); }},
    {"sweep one in use", true, no_file,
     [](bool, Joined&) { CHECK(sweep_it() == PoolFileState::in_use); }},
};

inline int files_in_directory() {
    int n = 0;
    DIR* dir = opendir(directory_of_world().c_str());
    CHECK(dir != nullptr);
    while (const dirent* entry = readdir(dir))
        n += entry->d_name[0] != '.' || (entry->d_name[1] != 0 && entry->d_name[1] != '.');
    closedir(dir);
    return n;
}

// Puts something in, to see that the pool works.
inline void work_in(Member& m) {
    collect_dead(m);
    test::expect_sound(m, "a pool in whose file a process died");
    UnboundedWait wait;
    Allocated a;
    CHECK(allocate(m, {.bytes = 5000}, wait, a) == Status::ok);
    drop(m, a.index, wait);
    CHECK(heap_stats(m).used == 0);
}

// Forked off before the world has a pool, so it knows nothing of it; begins when told to.
class Process {
  public:
    template <class Run>
    explicit Process(Run run) {
        int ends[2];
        CHECK(pipe2(ends, O_CLOEXEC) == 0);
        pid_ = fork();
        if (pid_ == 0) {
            close(ends[1]);
            char go = 0;
            if (read(ends[0], &go, 1) != 1) _exit(1);
            run();
            _exit(0);
        }
        close(ends[0]);
        go_ = ends[1];
    }
    int run() {
        int status = 0;
        CHECK(write(go_, "", 1) == 1 && waitpid(pid_, &status, 0) == pid_);
        close(go_);
        return status;
    }

  private:
    pid_t pid_ = -1;
    int go_ = -1;
};

// What a process finds that comes after the actor's end: nothing that the actor left is in its way.
inline void come_after(const FileCase& one, bool memfd) {
    Joined pool;
    // A hidden file whose maker has died. (A sweep of the directory finds the names.)
    const os::Descriptor folder(os::open_directory(directory_of_world().c_str()));
    for (const std::string& left : os::names_in(folder.number(), storage::kPoolFiles.prefix)) {
        UnboundedWait wait;
        CHECK(sweep_pool(Through::pool_directory, directory_of_world(), left, true, wait) ==
              PoolFileState::removed);
    }
    if (one.survivor) {
        const Status s = open_it(pool);
        CHECK(s == Status::ok || (one.may_lose_name && s == Status::no_entry));
    } else if (one.persistent) {
        CHECK(open_it(pool) == Status::ok);
    } else {
        CHECK(make(memfd, pool) == Status::ok);
    }
    if (pool == nullptr) return;
    work_in(*pool);
    if (one.persistent) CHECK(unlink_it(*pool) == Status::ok);
    pool.reset();
}

}  // namespace onecopy::campaign
#endif
