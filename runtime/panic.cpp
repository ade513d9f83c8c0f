// SPDX-License-Identifier: Apache-2.0
// How a process dies: uncaught exceptions, fatal errors, stack overflow; and SIGQUIT's dump. Go: panic.go,
// signal_unix.go.
//
// One report, whole: the first to die prints, everybody else who wants to die waits for the end (main too, when it
// returns meanwhile). Exit status 2.
//
// An uncaught exception is described before that: what() is the program's, and may park, call blocking(), or wait for
// other goroutines, which go on meanwhile. So whoever waits for a description parks, and does not keep its P; and if
// what() waits for ever, that is a deadlock like any other. Go: preprintpanics.
#include <cxxabi.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string_view>
#include <typeinfo>

#include "runtime/clock.h"
#include "runtime/exception_text.h"
#include "runtime/park.h"
#include "runtime/traceback.h"

namespace weft::rt {
namespace {

constexpr std::size_t kSignalStack = 64 << 10;
constexpr int kExitStatus = 2;
constexpr std::int64_t kDescriptionPatience = 10'000'000'000;

std::atomic<bool> dying{false};
std::atomic<pthread_t> dying_thread{};
std::terminate_handler earlier_terminate = nullptr;
struct sigaction earlier_segv, earlier_bus, earlier_quit;
bool quit_is_ours = false;

// A process that dies because memory is at an end needs some to say so.
constexpr std::size_t kReserve = 1 << 20;
std::atomic<void*> reserve{nullptr};

void lay_up_reserve() {
  if (reserve.load(std::memory_order_relaxed)) return;
  void* const at = mmap(nullptr, kReserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at != MAP_FAILED) reserve.store(at, std::memory_order_relaxed);
}

void use_reserve() {
  if (void* const at = reserve.exchange(nullptr)) munmap(at, kReserve);
}

void write_all(std::string_view text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t n = write(STDERR_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += static_cast<std::size_t>(n);
  }
}

void begin_dying() {
  if (dying.exchange(true)) {
    if (pthread_equal(dying_thread.load(), pthread_self())) {
      write_all("fatal error: panic while reporting a panic\n");
      _exit(kExitStatus);
    }
    for (;;) pause();
  }
  dying_thread.store(pthread_self());
  use_reserve();
}

[[noreturn]] void end_dying(const std::string& report) {
  // What the program had printed comes out first, unless somebody is printing right now.
  if (ftrylockfile(stdout) == 0) {
    fflush_unlocked(stdout);
    funlockfile(stdout);
  }
  write_all(report);
  _exit(kExitStatus);
}

// A goroutine whose exception nobody catches. It never returns from on_terminate(), so its node lies on its stack.
struct panic {
  const g* gp;
  const std::type_info* type;
  panic* next;
};
std::atomic<panic*> panics{nullptr};
std::atomic<std::int64_t> main_waits_since{kNever};

template <class F>
const panic* find_panic(F matches) {
  const panic* at = panics.load(std::memory_order_acquire);
  while (at && !matches(*at)) at = at->next;
  return at;
}

void begin_panic(panic& self) {
  self.next = panics.load(std::memory_order_relaxed);
  while (!panics.compare_exchange_weak(self.next, &self, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

[[noreturn]] void die_while_describing(const panic& first) {
  const std::type_info* const second = abi::__cxa_current_exception_type();
  begin_dying();
  std::string text = "panic: " + (first.type ? type_name(*first.type) : "std::terminate without an exception") +
                     "\nfatal error: panic while reporting a panic";
  if (second && second != first.type) text += ": " + type_name(*second);
  end_dying(text + "\n\n" + format_goroutine(first.gp));
}

// noexcept: what is thrown in here comes here again.
void on_terminate() noexcept {
  const m* const mp = this_m();
  if (!mp || mp->curg == &mp->g0) {
    if (earlier_terminate) earlier_terminate();
    std::abort();
  }
  g* const gp = mp->curg;
  if (const panic* const first = find_panic([gp](const panic& p) { return p.gp == gp; })) die_while_describing(*first);
  panic self{gp, abi::__cxa_current_exception_type(), nullptr};
  begin_panic(self);
  use_reserve();
  gp->goexiting = false;  // what() may call anything
  const std::string what = describe_exception();
  begin_dying();
  end_dying("panic: " + what + "\n\n" + format_goroutine(gp));
}

bool in_guard(const stack* s, const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  return s && s->guarded && at >= s->low() && at < s->low() + stack_guard_size();
}

void on_fault(int signal, siginfo_t* info, void* context) {
  const m* const mp = this_m();
  if (mp && mp->curg != &mp->g0 && in_guard(mp->curg->stk, info->si_addr)) {
    begin_dying();
    const g* const gp = mp->curg;
    std::uintptr_t pcs[kTracebackInnerFrames * 4];
    const std::size_t n = unwind_from(*static_cast<ucontext_t*>(context), pcs);
    end_dying("runtime: goroutine stack exceeds " + std::to_string(gp->stk->size) +
              "-byte limit (WEFT_STACK_SIZE, run_options.stack_size and go_options.stack_size set it)\n"
              "fatal error: stack overflow\n\n" +
              goroutine_header(gp) + format_frames({pcs, n}) + goroutine_creator(gp));
  }
  // Not ours: as if we had not been here.
  const struct sigaction& earlier = signal == SIGSEGV ? earlier_segv : earlier_bus;
  if ((earlier.sa_flags & SA_SIGINFO) != 0) return earlier.sa_sigaction(signal, info, context);
  if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) return earlier.sa_handler(signal);
  const bool sent = info->si_code <= 0;  // by kill(2) or the like, not by an instruction
  if (sent && earlier.sa_handler == SIG_IGN) return;
  sigaction(signal, &earlier, nullptr);  // the instruction faults again
  if (sent) raise(signal);
}

void on_quit(int) {
  const int saved = errno;
  sched.dump_wanted.store(true, std::memory_order_release);
  wake_template_thread();
  errno = saved;
}

// Best effort: Ms stop at their next scheduling point; those that compute go on.
void freeze() {
  sched.frozen.store(true, std::memory_order_seq_cst);
  const int n = sched.nps.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i) sched.allp[static_cast<std::size_t>(i)].load()->preempt.store(true);
  timespec moment{0, 1'000'000};
  nanosleep(&moment, nullptr);
}

}  // namespace

void fatal(const std::string& text, const std::string& before) {
  begin_dying();
  end_dying(before + "fatal error: " + text + "\n" + format_all_goroutines());
}

void fatal_throw(const std::string& before, const std::string& text) {
  begin_dying();
  end_dying(before + "fatal error: " + text + "\n");
}

void wait_for_panics() {
  const std::uint32_t run = this_m()->run;
  if (!find_panic([run](const panic& p) { return p.gp->run == run; })) return;
  main_waits_since.store(nanotime(), std::memory_order_relaxed);
  entry who;
  park_forever(who, wait_reason::panic_wait);
}

void lose_patience_with_panics() {
  if (nanotime() - kDescriptionPatience < main_waits_since.load(std::memory_order_relaxed)) return;
  fatal("main has returned, but what() of an uncaught exception has not");
}

void wait_if_dying() {
  while (dying.load(std::memory_order_acquire)) pause();
}

void dump_if_wanted() {
  if (!sched.dump_wanted.exchange(false, std::memory_order_acq_rel)) return;
  begin_dying();
  freeze();
  end_dying("SIGQUIT: quit\n" + format_all_goroutines());
}

void install_handlers() {
  lay_up_reserve();
  earlier_terminate = std::set_terminate(on_terminate);
  struct sigaction fault {};
  fault.sa_sigaction = on_fault;
  fault.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&fault.sa_mask);
  sigaction(SIGSEGV, &fault, &earlier_segv);
  sigaction(SIGBUS, &fault, &earlier_bus);
  sigaction(SIGQUIT, nullptr, &earlier_quit);
  quit_is_ours = (earlier_quit.sa_flags & SA_SIGINFO) == 0 && earlier_quit.sa_handler == SIG_DFL;
  if (!quit_is_ours) return;
  struct sigaction quit {};
  quit.sa_handler = on_quit;
  quit.sa_flags = SA_RESTART | SA_ONSTACK;
  sigemptyset(&quit.sa_mask);
  sigaction(SIGQUIT, &quit, nullptr);
}

void restore_handlers() {
  std::set_terminate(earlier_terminate);
  sigaction(SIGSEGV, &earlier_segv, nullptr);
  sigaction(SIGBUS, &earlier_bus, nullptr);
  if (quit_is_ours) sigaction(SIGQUIT, &earlier_quit, nullptr);
}

void give_signal_stack(m* mp) {
  void* p = mmap(nullptr, kSignalStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return;  // an overflow will then end the process without a word
  stack_t ours{};
  ours.ss_sp = p;
  ours.ss_size = kSignalStack;
  if (sigaltstack(&ours, &mp->earlier_signal_stack) != 0) {
    munmap(p, kSignalStack);
    return;
  }
  mp->signal_stack = p;
}

void take_signal_stack(m* mp) {
  if (!mp->signal_stack) return;
  stack_t back = mp->earlier_signal_stack;
  if ((back.ss_flags & SS_ONSTACK) == 0) sigaltstack(&back, nullptr);
  munmap(mp->signal_stack, kSignalStack);
  mp->signal_stack = nullptr;
}

}  // namespace weft::rt
