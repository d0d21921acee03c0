// The core's fork handlers. Handlers of a child run in the order in which they were
// registered, so with a second registration the number below could be an old one in another
// handler.
#pragma once

namespace onecopy::os {

struct ForkSteps {
    void (*prepare)() noexcept;
    void (*parent)() noexcept;
    void (*child)() noexcept;  // `lineage` is the child's already
};

// Which process this is, in the line of forks that led to it; never 0. It counts from the first
// call of one of the two functions below.
unsigned lineage() noexcept;
void count_forks() noexcept;
// And runs these in every fork that begins from now on. One caller, with `steps` that stay.
void follow_forks(const ForkSteps& steps) noexcept;

// Has `steps` run around each fork that begins from now on, for a mutex that is private to one file
// and under which nothing else is taken.
void run_around_forks(const ForkSteps& steps) noexcept;

// Has `act` run in each child of a fork that begins from now on, for something that is private to
// one file and depends on nothing above. A child runs them in the order in which they were
// registered.
void run_in_children(void (*act)() noexcept) noexcept;

}  // namespace onecopy::os
