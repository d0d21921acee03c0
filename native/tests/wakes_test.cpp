// A wake may reach a waiter that does not act on it: then it goes to one that does. What ends a
// wait must wake the waiting process; elsewhere a nap would hide that it does not. The waits are
// threads of one process, which fall asleep one after the other: the first to sleep is the first to
// be woken. In a fault build the naps are so long that a lost wake is a hang.
#include <sys/syscall.h>

#include <atomic>
#include <string>
#include <thread>

#include "containers/list.hpp"
#include "queue/queue.hpp"
#include "tests/campaign_locks.hpp"
#include "tests/check.hpp"

using namespace onecopy;

namespace {

constexpr unsigned kHang = 30;  // seconds: a watchdog

// ---- a thread of which others can tell whether it sleeps ----------------------------------------

class Sleeper {
  public:
    template <class Body>
    explicit Sleeper(Body body)
        : thread_([this, body] {
              id_.store(static_cast<int>(syscall(SYS_gettid)));
              body();
          }) {}
    // Until it sleeps in a system call, for some looks in a row.
    void await_sleep() const {
        for (int looks = 0; looks < 20; looks = sleeps() ? looks + 1 : 0)
            usleep(1000);
    }
    void join() { thread_.join(); }

  private:
    bool sleeps() const {
        const std::string path = "/proc/self/task/" + std::to_string(id_.load()) + "/stat";
        FILE* file = std::fopen(path.c_str(), "r");
        if (file == nullptr) return false;
        char state = 0;
        const int got = std::fscanf(file, "%*d (%*[^)]) %c", &state);
        std::fclose(file);
        return got == 1 && state == 'S';
    }
    std::atomic<int> id_{0};
    std::thread thread_;
};

template <class Thing, class... Arguments>
Thing made(Member& m, Handle& h, Arguments... arguments) {
    UnboundedWait wait;
    Thing out;
    CHECK(Thing::create(m, arguments..., wait, h) == Status::ok);
    CHECK(Thing::open(m, h, out) == Status::ok);
    return out;
}

// ---- conditions ---------------------------------------------------------------------------------

struct Box {
    Handle handles[2] = {};
    Mutex mutex;
    Condition condition;
    explicit Box(Member& m)
        : mutex(made<Mutex>(m, handles[0], false)),
          condition(made<Condition>(m, handles[1], handles[0])) {}
    void wait() {
        UnboundedWait forever;
        Status again;
        CHECK(mutex.acquire(forever) == Status::ok);
        CHECK(condition.wait(mutex, forever, again) == Status::ok && good(again));
        CHECK(mutex.release() == Status::ok);
    }
    void notify_one() {
        UnboundedWait forever;
        CHECK(mutex.acquire(forever) == Status::ok);
        CHECK(condition.notify(mutex, 1) == Status::ok);
        CHECK(mutex.release() == Status::ok);
    }
};

// A policy whose thread has a signal to handle, and is notified while it does that.
class NotifiedMeanwhile final : public WaitPolicy {
  public:
    explicit NotifiedMeanwhile(Box& box) : WaitPolicy(kForever), box_(box) {}
    bool interrupted() noexcept override {
        if (!may_be_.load()) return false;
        box_.notify_one();
        return true;
    }
    void now() { may_be_.store(true); }

  private:
    Box& box_;
    std::atomic<bool> may_be_{false};
};

void an_interrupted_waiter_passes_its_notification_on() {
    const int fd = test::make_pool(kMiB, 4);
    auto m = test::join_pool(fd);
    Box box(*m);
    NotifiedMeanwhile policy(box);
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    kFirstNap = 50'000'000;  // it asks for signals after each
#endif
    Sleeper first([&] {
        UnboundedWait forever;
        Status again;
        CHECK(box.mutex.acquire(forever) == Status::ok);
        CHECK(box.condition.wait(box.mutex, policy, again) == Status::interrupted);
        CHECK(again == Status::ok && box.mutex.release() == Status::ok);
    });
    while (box.condition.waiting() != 1)
        usleep(200);
    Sleeper second([&] { box.wait(); });
    while (box.condition.waiting() != 2)
        usleep(200);
    policy.now();
    first.join();
    second.join();
    CHECK(box.condition.waiting() == 0);
}

void a_dead_waiters_notification_goes_to_another() {
    const int fd = test::make_pool(kMiB, 4);
    auto m = test::join_pool(fd);
    Box box(*m);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        auto own = test::join_pool(fd);
        Mutex mutex;
        Condition condition;
        for (Handle h : box.handles)
            CHECK(hold(*own, h) == Status::ok);
        CHECK(Mutex::open(*own, box.handles[0], mutex) == Status::ok &&
              Condition::open(*own, box.handles[1], condition) == Status::ok);
        UnboundedWait forever;
        Status again;
        CHECK(mutex.acquire(forever) == Status::ok);
        condition.wait(mutex, forever, again);
        _exit(0);
    }
    while (box.condition.waiting() != 1)
        usleep(200);
    // Stopped, so that it cannot act on its notification.
    int status = 0;
    CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child);
    Sleeper other([&] { box.wait(); });
    while (box.condition.waiting() != 2)
        usleep(200);
    box.notify_one();
    CHECK(box.condition.waiting() == 1);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child);
    other.join();  // by its own look for the dead
    CHECK(box.condition.waiting() == 0);
}

// ---- waiters that take nothing ------------------------------------------------------------------

// One thread waits until a lock is free, and another one to take it.
void a_waiter_for_a_free_lock_passes_the_wake_on() {
    const int fd = test::make_pool(kMiB, 4);
    auto owner = test::join_pool(fd), m = test::join_pool(fd);
    UnboundedWait wait;
    Handle h = 0;
    List theirs = made<List>(*owner, h), ours;
    CHECK(hold(*m, h) == Status::ok && List::open(*m, h, ours) == Status::ok);
    CHECK(theirs.mutex().acquire(wait) == Status::ok);
    Sleeper first([&] {
        UnboundedWait forever;
        List list;
        CHECK(List::open(*m, h, list) == Status::ok && list.mutex().await(forever) == Status::ok);
    });
    first.await_sleep();
    Sleeper second([&] {
        UnboundedWait forever;
        CHECK(ours.mutex().acquire(forever) == Status::ok);
        CHECK(ours.mutex().release() == Status::ok);
    });
    second.await_sleep();
    CHECK(theirs.mutex().release() == Status::ok);
    first.join();
    second.join();
}

// One thread waits until there is something to get, and another one gets it.
void a_waiter_for_a_message_passes_the_wake_on() {
    const int fd = test::make_pool(kMiB, 4);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Handle h = 0;
    Queue queue = made<Queue>(*m, h, u64{4}, u32{0});
    std::atomic<bool> stop{false};
    Sleeper first([&] {
        UnboundedWait forever;
        CHECK(queue.wait_ready(stop, forever) == Status::ok);
    });
    first.await_sleep();
    Sleeper second([&] {
        UnboundedWait forever;
        Queue own;
        Message msg;
        CHECK(Queue::open(*m, h, own) == Status::ok && own.get(msg, forever) == Status::ok);
    });
    second.await_sleep();
    Message msg;
    msg.length = 1;
    CHECK(queue.put(msg, wait) == Status::ok);
    second.join();
    // With short naps, perhaps only the second thread was woken: then the first one still waits,
    // and that is right.
    CHECK(queue.put(msg, wait) == Status::ok);
    first.join();
}

// ---- a writer that gives up ---------------------------------------------------------------------

// What it leaves may be damaged: the next owner hears of that, whether it waits to read or to
// write.
void a_writer_that_gives_up_wakes(Status (RwLock::*enter)(WaitPolicy&) noexcept) {
    const int fd = test::make_pool(kMiB, 4);
    auto m = test::join_pool(fd);
    UnboundedWait wait;
    Handle h = 0;
    RwLock lock = made<RwLock>(*m, h, Prefer::writer);
    CHECK(lock.write(wait) == Status::ok);
    Sleeper next([&] {
        UnboundedWait forever;
        RwLock own;
        CHECK(RwLock::open(*m, h, own) == Status::ok);
        CHECK((own.*enter)(forever) == Status::owner_died);
        CHECK(own.write_release() == Status::ok);
    });
    next.await_sleep();
    CHECK(lock.abandon() == Status::ok);
    next.join();
}

// ---- redelivery ---------------------------------------------------------------------------------

// A queue with room for one message.
struct SmallQueue {
    const int fd = test::make_pool(kMiB, 4);
    std::unique_ptr<Member> m = test::join_pool(fd);
    Handle h = 0;
    Queue queue;
    UnboundedWait wait;

    explicit SmallQueue(u32 flags = 0) : queue(made<Queue>(*m, h, u64{1}, flags)) {}
    void put() {
        Message msg;
        msg.length = 1;
        CHECK(queue.put(msg, wait) == Status::ok);
    }
    Queue open() const {
        Queue own;
        CHECK(Queue::open(*m, h, own) == Status::ok);
        return own;
    }
};

// `taker` has taken its message, and not finished it.
struct OneTaken : SmallQueue {
    std::unique_ptr<Member> taker = test::join_pool(fd);
    Queue theirs;
    Message taken;

    OneTaken() : SmallQueue(kQueueRedelivers) {
        put();
        CHECK(hold(*taker, h) == Status::ok && Queue::open(*taker, h, theirs) == Status::ok);
        CHECK(theirs.get(taken, wait) == Status::ok);
    }
    void get_it_again() const {
        UnboundedWait forever;
        Message msg;
        Queue own = open();
        CHECK(own.get(msg, forever) == Status::ok && msg.redeliveries != 0);
    }
    void finish() { CHECK(theirs.task_done(taken.position, wait) == Status::ok); }
};

void a_message_that_is_given_back_wakes_a_consumer() {
    OneTaken one;
    Sleeper next([&] { one.get_it_again(); });
    next.await_sleep();
    CHECK(one.theirs.give_back(one.taken.position, one.wait) == Status::ok);
    next.join();
}

// Another process notices the death than the one that sleeps.
void a_message_of_a_dead_taker_wakes_a_consumer() {
    OneTaken one;
    Sleeper next([&] { one.get_it_again(); });
    next.await_sleep();
    one.taker->unlock_slot(one.taker->slot);  // as the kernel does it when a process dies
    one.taker->joined = false;
    CHECK(collect_dead(*one.m) == 1);
    static_cast<void>(one.queue.size());  // returns it; the sleeper may have it by now
    next.join();
}

void a_message_that_is_finished_wakes_a_producer() {
    OneTaken one;
    Sleeper next([&] {
        UnboundedWait forever;
        Message msg;
        msg.length = 1;
        Queue own = one.open();
        CHECK(own.put(msg, forever) == Status::ok);
    });
    next.await_sleep();
    one.finish();
    next.join();
}

void the_last_message_that_is_finished_wakes_who_joins() {
    OneTaken one;
    Sleeper next([&] {
        UnboundedWait forever;
        Queue own = one.open();
        CHECK(own.join(forever) == Status::ok);
    });
    next.await_sleep();
    one.finish();
    next.join();
}

// ---- the end of a queue -------------------------------------------------------------------------

void a_queue_that_is_shut_down_wakes(bool full) {
    SmallQueue one;
    if (full) one.put();
    Sleeper next([&] {
        UnboundedWait forever;
        Queue own = one.open();
        Message mine;
        mine.length = 1;
        CHECK((full ? own.put(mine, forever) : own.get(mine, forever)) == Status::shut_down);
    });
    next.await_sleep();
    CHECK(one.queue.shut_down(false, one.wait) == Status::ok);
    next.join();
}

void the_last_task_that_is_done_wakes_who_joins() {
    SmallQueue one;
    Message msg;
    one.put();
    CHECK(one.queue.get(msg, one.wait) == Status::ok);
    Sleeper next([&] {
        UnboundedWait forever;
        Queue own = one.open();
        CHECK(own.join(forever) == Status::ok);
    });
    next.await_sleep();
    CHECK(one.queue.task_done(one.wait) == Status::ok);
    next.join();
}

}  // namespace

int main() {
    alarm(kHang);
    a_dead_waiters_notification_goes_to_another();
#if defined(ONECOPY_FAULTS) && ONECOPY_FAULTS
    kFirstNap = kLongestNap = 1'000'000'000'000;
#endif
    a_waiter_for_a_free_lock_passes_the_wake_on();
    a_waiter_for_a_message_passes_the_wake_on();
    a_writer_that_gives_up_wakes(&RwLock::read);
    a_writer_that_gives_up_wakes(&RwLock::write);
    a_message_that_is_given_back_wakes_a_consumer();
    a_message_of_a_dead_taker_wakes_a_consumer();
    a_message_that_is_finished_wakes_a_producer();
    the_last_message_that_is_finished_wakes_who_joins();
    a_queue_that_is_shut_down_wakes(false);
    a_queue_that_is_shut_down_wakes(true);
    the_last_task_that_is_done_wakes_who_joins();
    an_interrupted_waiter_passes_its_notification_on();
    std::puts("wakes: none is lost");
    return 0;
}
