// SPDX-License-Identifier: Apache-2.0
// Goroutines: starting the runtime, starting goroutines, yielding, ending, blocking calls, thread locking.
//
// A goroutine may continue on another thread after any call that can park it. Compilers cache the addresses of
// thread-locals and of errno, so code that holds either across such a call reads another thread's: read errno before
// you call into weft again, and keep goroutine state in locals, not in thread_local variables.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <tuple>
#include <type_traits>
#include <utility>

#include <weft/error.h>

namespace weft {

/// How run() sets the runtime up. 0 and null mean: the environment (GOMAXPROCS, WEFT_STACK_SIZE, WEFT_KERNEL_ASSIST),
/// then the default.
struct run_options {
  /// Number of Ps, spread over the NUMA nodes. Default: one for each allowed CPU, or, with a lower cgroup quota, that
  /// rounded up, at least 2, on as few nodes as possible.
  int gomaxprocs = 0;
  std::size_t stack_size = 0;           ///< bytes reserved for a goroutine's stack; default 64 KiB (8 MiB for main)
  const char* kernel_assist = nullptr;  ///< "auto", "sentinel" or "off"
  bool pin = true;                      ///< pin each M to its P's CPU; without it there is no sentinel
  /// Instead of a number, one for each NUMA node, as in the environment: "node0=6,node1=2". A node that is not named
  /// has its default; one that is not there is passed over, with a line on stderr.
  const char* gomaxprocs_on_nodes = nullptr;
};

/// How go() starts one goroutine.
struct go_options {
  int node = -1;               ///< the NUMA node to start on (or the nearest that has Ps); -1: this one
  std::size_t stack_size = 0;  ///< bytes reserved for its stack; 0: the runtime's default
  const char* name = nullptr;  ///< shown in dumps; the string must outlive the goroutine
};

namespace detail {

struct goroutine;
enum class closure_op { run, destroy };
using closure_fn = void (*)(void* storage, closure_op op);

struct new_goroutine {
  goroutine* g;
  void* storage;
};

new_goroutine newproc(const go_options& options, std::size_t size, std::size_t align);
void newproc_start(goroutine* g, closure_fn fn) noexcept;
void newproc_abort(goroutine* g) noexcept;
void run_main(const run_options& options, void (*main_fn)(void*), void* argument);
bool entersyscall() noexcept;
void exitsyscall() noexcept;

template <class F, class... A>
struct closure {
  F f;
  std::tuple<A...> args;
  void operator()() { std::apply(std::move(f), std::move(args)); }
};

template <class C>
void closure_main(void* storage, closure_op op) {
  struct destroy {
    C* c;
    ~destroy() { c->~C(); }
  } owner{static_cast<C*>(storage)};
  if (op == closure_op::run) (*owner.c)();
}

struct syscall_scope {
  bool entered = entersyscall();
  syscall_scope() = default;
  syscall_scope(const syscall_scope&) = delete;
  syscall_scope& operator=(const syscall_scope&) = delete;
  ~syscall_scope() {
    if (entered) exitsyscall();
  }
};

// Local slots: see goroutine_local.
void* goroutine_local_get(const void* key, void* (*create)(), void (*destroy)(void*));

}  // namespace detail

/// Starts a goroutine that runs f(args...) on copies of both, as std::thread does; move-only values too. Callable from
/// goroutines and, while a run() is active, from any thread. Throws `error` when no run() is active, std::bad_alloc
/// when memory is short. Go: the go statement (runtime.newproc).
template <class F, class... A>
[[gnu::always_inline]] inline void go(go_options options, F&& f, A&&... args) {
  using closure = detail::closure<std::decay_t<F>, std::decay_t<A>...>;
  detail::new_goroutine fresh = detail::newproc(options, sizeof(closure), alignof(closure));
  if constexpr (std::is_nothrow_constructible_v<std::decay_t<F>, F> &&
                (std::is_nothrow_constructible_v<std::decay_t<A>, A> && ...)) {
    ::new (fresh.storage) closure{std::forward<F>(f), std::tuple<std::decay_t<A>...>(std::forward<A>(args)...)};
  } else {
    try {
      ::new (fresh.storage) closure{std::forward<F>(f), std::tuple<std::decay_t<A>...>(std::forward<A>(args)...)};
    } catch (...) {
      detail::newproc_abort(fresh.g);
      throw;
    }
  }
  detail::newproc_start(fresh.g, &detail::closure_main<closure>);
}

/// The same with default options.
template <class F, class... A>
requires(!std::is_same_v<std::decay_t<F>, go_options>) [[gnu::always_inline]] inline void go(F&& f, A&&... args) {
  weft::go(go_options{}, std::forward<F>(f), std::forward<A>(args)...);
}

/// Runs main_fn as goroutine 1 and returns its int (0 if void) as soon as it returns, as Go's main does: goroutines
/// that are still there are abandoned, not unwound. The calling thread is m0: main_fn starts on it. May be called
/// again later, from any thread, but not while a run() is active (throws `error`). Malformed options or environment:
/// one line on stderr, exit status 2. Go: rt0_go and runtime.main.
///
/// What outlives a run() (channels, locks, semaphores, barriers, contexts, timers) goes on: goroutines that were left
/// waiting for it are passed over, and keep nobody else from what they waited for. But what a goroutine had when it was
/// left stays with it: a lock or a semaphore's place that it held or that had just been handed to it, a task that a
/// task_group or wait_group waits for. The memory of what it waited for, and of its stack, must stay (its stack does).
template <class F>
int run(run_options options, F&& main_fn) {
  struct call {
    std::remove_reference_t<F>* f;
    int result = 0;
  } main_call{std::addressof(main_fn)};
  detail::run_main(
      options,
      [](void* argument) {
        auto* c = static_cast<call*>(argument);
        if constexpr (std::is_void_v<std::invoke_result_t<F&>>) {
          (*c->f)();
        } else {
          c->result = static_cast<int>((*c->f)());
        }
      },
      &main_call);
  return main_call.result;
}

/// The same with default options.
template <class F>
int run(F&& main_fn) {
  return weft::run(run_options{}, std::forward<F>(main_fn));
}

/// Puts this goroutine at the tail of its run queue and lets others run. Go: runtime.Gosched.
void yield();

/// Ends this goroutine: unwinds its stack, so destructors run; catch (...) holds it up to its next runtime call at
/// most. In main: the other goroutines go on. From a foreign thread: throws `error`. Go: runtime.Goexit.
[[noreturn]] void goexit();

/// The number of Ps. Go: runtime.GOMAXPROCS(0).
int gomaxprocs();
/// Sets the number of Ps (at most 1024) and returns the previous one; n < 1 only reads. Takes effect on a P at its next
/// scheduling point; waits up to one time slice for that. They are spread over the NUMA nodes. Go: runtime.GOMAXPROCS.
int gomaxprocs(int n);

/// The number of Ps on a NUMA node; 0 if there is no such node.
int gomaxprocs_on_node(int node);
/// Sets it, and returns the previous one; the other nodes keep theirs. n < 0 only reads, and so does what would leave
/// no P at all, more than 1024, or a P on a node without CPUs for this process. Otherwise as gomaxprocs(n).
int gomaxprocs_on_node(int node, int n);

/// The CPUs this process may use, as of run()'s beginning. Go: runtime.NumCPU.
int num_cpu();
/// Goroutines that have not ended. Exact when nothing starts or ends meanwhile. Go: runtime.NumGoroutine.
int num_goroutine();
/// NUMA nodes with CPUs that this process may use.
int num_node();

/// The P that runs this goroutine, -1 outside one. May be another one after any call that can park.
int current_p();
/// The NUMA node of that P, -1 outside a goroutine.
int current_node();
/// This goroutine's id, 0 outside one. Main's is 1.
std::uint64_t current_goroutine_id();

/// Wires this goroutine to its thread until as many unlocks; a goroutine that ends while locked ends its thread.
/// No-op outside a goroutine. Go: runtime.LockOSThread.
void lock_os_thread();
/// Undoes one lock_os_thread(); without one: no-op. Go: runtime.UnlockOSThread.
void unlock_os_thread();

/// Calls f, which may block in the kernel, and returns what it returns: the P is handed to other goroutines as soon as
/// the thread really blocks. f must not hold this goroutine's thread-locals past its end, and reads errno itself;
/// errno is carried over to the thread on which the goroutine goes on. On a foreign thread: just calls f.
/// Go: entersyscall, exitsyscall.
template <class F>
auto blocking(F&& f) -> std::invoke_result_t<F> {
  detail::syscall_scope announced;
  return std::forward<F>(f)();
}

/// One T a goroutine: value-initialised on first use there, destroyed at the goroutine's end (in reverse order of first
/// use). On a foreign thread: one T a thread. The object must outlive its use by goroutines.
template <class T>
class goroutine_local {
 public:
  goroutine_local() = default;
  goroutine_local(const goroutine_local&) = delete;
  goroutine_local& operator=(const goroutine_local&) = delete;

  /// This goroutine's T. The reference is good until the goroutine ends; do not keep it for another one.
  T& operator*() {
    return *static_cast<T*>(detail::goroutine_local_get(
        this, []() -> void* { return new T(); }, [](void* value) { delete static_cast<T*>(value); }));
  }
  /// The same.
  T* operator->() { return std::addressof(**this); }
};

}  // namespace weft
