// SPDX-License-Identifier: Apache-2.0
// What the files of the scheduler offer each other. Each block names the file; the essays stand at their heads.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/scheduler.h"
#include "weft/attach.h"

namespace weft::rt {

// park.cpp (and park.h): one primitive to wait, one to wake.
/// Makes a waiting goroutine (or foreign thread) that this thread has dequeued run again.
void ready(g* gp);
/// Puts gp, just made runnable, at the tail of pp, which the caller holds.
void runqput(p* pp, g* gp);

// globq.cpp: the global queues.
/// Queues a runnable goroutine at home; returns where that was.
node& globrunqput(g* gp);
/// One that a thread without a P has started.
node& globrunqput_new(g* gp);
void globrunqput_batch(node& home, std::span<g* const> gs);
bool globrunqput_bound(g* gp);  // from a signal handler; false: its run() is over
g* globrunqget_bound();         // of any node
bool any_bound();
/// What a new goroutine needs before it is put into a queue; pp: its creator's, null for a foreign thread.
void newproc_ready(p* pp, g* gp, detail::closure_fn fn);
/// gp runs on pp: its home is there if it has not run yet, for then its stack will be, or if no P is wanted at home any
/// more. Otherwise it is a guest, and goes home, where its memory is, when it is next woken. (With the node of the last
/// run as home, a server on 4 nodes got a tenth less done in the simulation: who was away once stayed away.)
inline void settle_home(const p* pp, g* gp) {
  if (gp->home == pp->home_index) [[likely]]
    return;
  if (!gp->stk || node_at(gp->home).ps.load(std::memory_order_relaxed) == 0) gp->home = pp->home_index;
}
/// The same for one that pp, which the caller holds, has fetched from another node.
inline void adopt(p* pp, g* gp) {
  if (gp->home != pp->home_index) pp->moves.add(1);
  settle_home(pp, gp);
}
/// Takes up to `most` into pp's queue (which the caller holds), returning the first; null: empty.
g* globrunqget(p* pp, node& from, int most);
/// Once the run() is over: waits for whoever puts something there and has not seen that.
void settle_global_queues();
/// At the end of a run(), when nobody else is left.
void drop_global_queues();
/// The node itself, if Ps are wanted there.
node& nearest_with_ps(node& wanted);

// wakeup.cpp: starting Ms for work.
void wakep_slow(p* pp);
/// After making something runnable, by the holder of pp: an idle P may be woken for it.
inline void wakep(p* pp) {
  if (pp->home->gate.should_wake()) [[unlikely]]
    wakep_slow(pp);
}
void wakep_foreign(node& home);             // the same by a thread without a P, for work in the queues of that node
void startm(p* pp, bool spinning);          // runs pp, which the caller has taken from the idle set or holds, on some M
void handoffp(p* pp);                       // the caller gives pp up
bool give_to_idle_m(p* pp, bool spinning);  // runs pp on an M that sleeps on its CPU; false: there is none
void give_p(m* to, p* pp, bool spinning);   // wakes a sleeping M with pp
/// Starts a spinning M for an idle P, if none spins: the nearest to `from` (or null), for work of that node.
void wake_spinner(node& home, const cpu* from);
void acquirep(m* mp, p* pp);
p* releasep(m* mp);
/// Something is in a queue, or a timer is due, on this node, or on one that cannot help itself; or files are ready.
bool any_work(const node& home);
bool any_work();  // anywhere
/// Something is in the queues of that node.
bool has_work(const node& of);
/// The same, or timers of its Ps are due.
bool has_work(const node& of, std::int64_t now);
/// Where work waits that an idle P could do; null: nowhere.
node* neglected_node();
/// Puts pp, which the caller has let go of, into the idle set, and looks once more; true: the caller has it back.
[[nodiscard]] bool retire_p(p* pp, bool spinning);
/// Its first half: into the idle set, or to the bench.
void put_away(p* pp, bool spinning);
/// Its counterpart for callers that do not go to sleep themselves: sees to it that somebody has the watch.
[[nodiscard]] bool retire_p_for_good(p* pp);
/// Marks a thread that is inside the scheduler's shared state but not on g0: the end of a run() waits for it. `welcome`
/// is false when the run() is over: then there is nothing to do.
class visit {
 public:
  explicit visit(const m* self = this_m());
  ~visit() { visitors_.fetch_sub(1, std::memory_order_release); }
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;
  bool welcome;

 private:
  std::atomic<int>& visitors_;  // of the M's node
};
bool any_visitor();
void note_fruitless_wake(node& home);
void wakep_everywhere();

// watch.cpp: what idle Ms do.
/// Sleeps until there is a P (mp->held) or the thread must leave.
void stopm(m* mp);
/// Gives pp to the M that has the watch, if that is of its CPU and asleep.
bool give_to_watcher(p* pp, bool spinning);
/// Something is due at `when`: whoever has the watch is told, or somebody idle is to take it.
void poke_watcher(std::int64_t when);
/// The first file is registered.
void poke_watcher();
/// Somebody idle is to take the watch, if nobody has it, and there is something to watch before long.
void call_watch();

// find.cpp: findRunnable.
bool find_runnable(m* mp, g*& gp, bool& inherits);
/// The scheduler is to have a look at pp, which the caller holds, by the time `when`: its first timer is due then.
void look_by(p* pp, std::int64_t when);

// proc.cpp: the scheduling loop, on g0. Returns when this M's thread is to leave.
void schedule(m* mp);
/// For a runnable goroutine whose run() is over: if it has never run, its closure is destroyed, else it stays as it is.
void discard(g* gp);
/// Destroys a foreign thread's goroutine_local values.
void destroy_thread_locals(void*& head);

// threads.cpp: Ms.
/// Has the template thread make an M on c, for pp (null: it goes idle).
void request_m(cpu& c, p* pp, bool spinning);
/// What the template thread does about it.
void serve_m_requests();
m* make_m();           // by the template thread, or before there is one; null: no memory
void become_m(m* mp);  // the calling thread
void cease_to_be_m(m* mp);
/// mp, whose thread this is, or which idles, runs nothing any more and ends.
void tell_to_exit(m* mp);
void retire_idle_ms();
bool pin_thread(int tid, int cpu);  // tid 0: the calling one; false: refused, or Ms are not pinned (-1)
/// Whether the calling thread runs there right now, and whether another may run there alone.
bool is_on(const cpu& c);
bool is_bound_to(int tid, const cpu& c);
/// For a pinned thread that runs elsewhere: somebody has moved it, or the kernel has, since the CPU was offline. Pins
/// it again, unless it may not run there any more (false): whoever moves threads away is obeyed.
bool come_home(int cpu);
/// pthread_create() with all signals blocked: an error number, or 0.
int create_thread(pthread_t& thread, const pthread_attr_t* attributes, void* (*main)(void*), void* argument);
/// The kernel may have undone it, when CPUs came or went: Ms and sentinels go back to their CPUs.
void pin_again();
/// Ends what is left of this run(): its Ms leave, or are left behind in user code. By m0.
void stop_ms();

// handoff.cpp: taking a P back from an M that has blocked.
/// Why an M loses its P.
enum class loss : std::uint8_t { blocked, computed };
/// Takes pp from `victim` if that is still where it was seen; true: the caller has pp now.
bool take_p(p* pp, m* victim, whereabouts seen, loss why, bool same_cpu);
/// Takes a P from an M that was seen to have blocked; true: the caller has it.
bool carry_out(const take_order& order);
/// What an M does that was woken for it. True: it has the P, and something to do; false: it goes on sleeping.
bool take_as_told(m* mp);
/// Takes pp from its M if that is away in an announced call.
bool take_p_in_call(p* pp, bool same_cpu);
/// For a returning M: a P of its CPU, from an M that is away; null: none.
p* take_p_on_cpu(cpu& c);
void note_handoff(p* pp, std::uint64_t taken);
/// A goroutine runs on pp.
inline void end_handoff(p* pp) {
  if (const std::uint64_t taken = pp->handoff_ticks.load(std::memory_order_relaxed)) [[unlikely]]
    note_handoff(pp, taken);
}

// preempt.cpp
void install_preemption();
void remove_preemption();
/// Takes pp from the M that runs user code with it, hands it on, and has the M stopped. False: it runs none.
bool preempt_p(p* pp);
/// While there may be some, by the holder of pp: stops strays that run.
void stop_strays_at(p* pp, std::int64_t now);
/// take_p() for an M that runs user code, or has blocked there without a word.
bool take_p_in_user_code(p* pp, m* victim, whereabouts seen, loss why, bool same_cpu);
/// Lets the Ms go on without a P that are parked in mid-code, their goroutines in the queue.
void free_bound();
/// Lets all that are parked go on, whoever has their goroutines in hand: the run() is over.
void free_left_behind();
/// Stops the Ms that run user code without a P.
void stop_strays();

// fork.cpp
/// Before a run(): from now on the child of a fork() is told from its parent.
void watch_forks();
/// Whether this is the child of a process that had a run() active.
bool is_forked_child();
[[noreturn]] void end_forked_child();

// sentinel.cpp
void arm_sentinel(cpu& c);
void start_wanted_sentinels();  // by the template thread
void stop_sentinels();
void pin_sentinels_again();  // as the former

// sysmon.cpp
void start_sysmon();
void stop_sysmon();
void wake_sysmon();
/// Goroutines run again after all was idle: sysmon is to have a look, but not before them.
void call_sysmon();
void trace_if_wanted();  // by the template thread, as is the next
void report_lost_probes();

// template_thread.cpp
void start_template_thread();
void stop_template_thread();
void wake_template_thread();
bool template_thread_is_stuck(std::int64_t now);

// timers.cpp
void run_timers(timer_heap& heap, std::int64_t now);  // those that are due
std::int64_t next_timer();

// gfree.cpp: Gs and their stacks.
g* gfget(p* pp, int home);  // pp null: by a thread without a P; home: the index of the node that it is for
void gfput(p* pp, g* gp);
void release_free_lists(p* pp);   // gives a P's free Gs and stacks to the shared lists
stack* stack_get(p* pp);          // of the default size; null: out of memory
void stack_put(p* pp, stack* s);  // of any size
int count_goroutines();
/// Calls f for every G that was ever made.
void for_each_g(void (*f)(g* gp, void* argument), void* argument);

// lockedm.cpp
void stop_lockedm(m* mp);
void start_lockedm(m* mp, m* locked);

// gomaxprocs.cpp
/// From now on these Ps are wanted: one for each entry, bound to that CPU.
void start_ps(const std::vector<cpu*>& plan);
void delete_ps();
void delete_p(p* pp);  // of a run() that is over
/// Whether GOMAXPROCS has no room for this P any more.
inline bool surplus(const p* pp) { return !pp->wanted.load(std::memory_order_relaxed); }
/// Asks the surplus Ps to stop. Whether one still has to.
bool ask_surplus_to_stop();
/// This M lets go of its surplus P, whose work others take over.
void retire_surplus(m* mp);
/// Moves what pp, which the caller holds, has to others.
void drain(p* pp);

// deadlock.cpp
void check_dead();

// panic.cpp
/// The lines before, "fatal error: TEXT", all goroutines, exit status 2.
[[noreturn]] void fatal(const std::string& text, const std::string& before = "");
/// The same without a dump (the scheduler itself cannot go on).
[[noreturn]] void fatal_throw(const std::string& before, const std::string& text);
void install_handlers();
void restore_handlers();
/// If an exception that nobody catches is being described in this run(), waits for the report. By main, at its end.
void wait_for_panics();
/// But not for ever, if others keep the process alive. By sysmon.
void lose_patience_with_panics();
/// If the process is dying of a panic elsewhere, waits for that.
void wait_if_dying();
void dump_if_wanted();  // SIGQUIT came: by the template thread
void give_signal_stack(m* mp);
void take_signal_stack(m* mp);

// dump.cpp: goroutines as Go prints them.
std::string goroutine_header(const g* gp);
std::string goroutine_creator(const g* gp);
std::string creator_text(std::uintptr_t creator_pc, std::uint64_t creator_id);
std::string format_goroutine(const g* gp);
/// All of them, each preceded by an empty line.
std::string format_all_goroutines();

// groups.cpp: goroutines looked at from outside, while they go on.
/// What a goroutine does: "running", "runnable", "syscall", "preempted", or why it waits. Null: it is none any more.
const char* doing_of(const g* gp);
/// All of them, with what they have in common, the most frequent first. By the template thread.
std::vector<goroutine_group> group_goroutines();

// nodes.cpp: the machine.
/// Makes the nodes and CPUs of a topology known, and its map the one in use. `real`: Ms can be pinned to its CPUs.
void use_machine(const numa::topology& seen, bool real);
/// At a run()'s beginning: no CPU is known yet, no P is wanted anywhere.
void forget_machine();
/// The CPU of that number; null: it is not there (any more).
cpu* cpu_numbered(int id);
/// The node of that number, null: it has never had CPUs for us.
node* node_numbered(int id);
/// The nearest to the node of that number, of those where Ps are wanted: often itself.
node& nearest_node(int id);
/// The same for the node on which the calling thread runs now; it need not be an M.
node& node_of_thread();

// run.cpp: what the machine offers to this run().
int num_allowed_cpus();
int num_allowed_nodes();
/// From the next run() on, the machine is taken for this one; null: for what it is. Its CPUs need not be there: then Ms
/// are not pinned. For tests.
void pretend_machine(const numa::topology* described);

// machine_watch.cpp
/// Whether CPUs, nodes or the quota have changed: then the Ps follow. By the template thread.
void look_at_machine();
void ask_to_look_at_machine();  // by sysmon
void start_watching_machine();  // by run()

// foreign.cpp: threads that are no Ms.
g* foreign_g();
void foreign_park(g* gp);
void foreign_ready(g* gp);
void poke_foreign_sleepers();  // a timer in the foreign heap is due earlier than they think
enum class foreign_event : std::uint8_t { ready, told, look };
/// Waits in poll(2) until the file is ready; foreign_rouse() has told it to stop; or something else may have changed
/// (foreign_look(), the deadline, a signal).
foreign_event foreign_poll(g* gp, int fd, short events, std::int64_t deadline);
void foreign_await_word(g* gp);  // the foreign_rouse() that is bound to come
void foreign_rouse(g* gp);
void foreign_look(g* gp);

}  // namespace weft::rt
