#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Shows that the models can fail: breaks a copy of the code in one place after the other and expects the model to
# report a violation. From the top of the tree; with an argument, only the models whose name contains it.
# Each line: the model, the file to break, what is broken, a substitution (Perl's; it must change the file).
set -eu
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
missed=0

mutation() {  # model file what substitution
  case $1 in *"${only}"*) ;; *) return 0 ;; esac
  rm -rf "${copy:?}"/*
  mkdir -p "$copy/runtime/weft" "$copy/tests/model"
  cp runtime/*.h "$copy/runtime"
  cp runtime/weft/*.h "$copy/runtime/weft"
  cp tests/model/*.h tests/model/*.cpp "$copy/tests/model"
  perl -0pi -e "$4" "$copy/$2"
  if cmp -s "$2" "$copy/$2"; then
    echo "STALE   $1: $3"
    missed=1
    return 0
  fi
  "${CXX:-c++}" -std=c++20 -O1 -w -I"$copy" "$copy/tests/model/$1_model.cpp" -o "$copy/model"
  if "$copy/model" >"$copy/out" 2>&1; then
    echo "MISSED  $1: $3"
    missed=1
  elif grep -q violated "$copy/out"; then
    result=$(sed -n '3s/^USER ASSERT FAILED //p;3t;3p' "$copy/out")
    echo "caught  $1: $3: $result, interleaving $(sed -n '1s/.*interleaving //p' "$copy/out")"
  else
    echo "CRASHED $1: $3"
    missed=1
  fi
}

only=${1:-}
light='Policy::light_barrier\(\);'
heavy='Policy::heavy_barrier\(\);'

q=runtime/runq.h
mutation runq $q 'no barrier in enter()' "s/$light//"
mutation runq $q 'no barrier in rob()' "s/(steal_result rob\(.*?)$heavy/\$1/s"
mutation runq $q 'rob() does not look at busy' 's/(steal_result rob\(.*?)while \(busy_.load\(std::memory_order_acquire\) != 0\)/$1while (false)/s'
mutation runq $q 'enter() does not look at thief' 's/if \(thief_.load\(std::memory_order_acquire\) == 0\)/if (true)/'
mutation runq $q 'leave() releases nothing' 's/(void leave\(\) \{ busy_.store\(0, std::memory_order_)release/$1relaxed/'
mutation runq $q 'rob() releases nothing' 's/(thief_.store\(0, std::memory_order_)release(\);\n    return g)/$1relaxed$2/'
mutation runq $q 'put() releases nothing' 's/(tail_.store\(tail \+ 1, std::memory_order_)release/$1relaxed/'
mutation runq $q 'steal() publishes without release' 's/(to.tail_.store\(at \+ n - 1, std::memory_order_)release/$1relaxed/'
mutation runq $q 'steal() without CAS' 's/if \(!head_.compare_exchange_strong\(expected, head \+ n,[^;]*;/head_.store(head + n, std::memory_order_release);/'
mutation runq $q 'steal() reads a stale tail' 's/(tail_.load\(std::memory_order_)acquire(\);  \/\/ pairs with put)/$1relaxed$2/'
mutation runq $q 'spill without CAS' 's/if \(!head_.compare_exchange_strong\(head, head \+ kOverflow,[^;]*;/head_.store(head + kOverflow, std::memory_order_release);/'
mutation runq $q 'the spill keeps no order' 's/(spill.gs\[)i(\] = ring_)/$1kOverflow - 1 - i$2/'
mutation runq $q 'the head moves before the batch is written' 's/(      batch_next_.store\(1,.*?\n.*?\n)(      if \(head_.compare_exchange_strong[^;]*?\)\n)(        return batch_\[0\][^;]*;)/$2\{\n$1$3\}/s'
mutation runq $q 'empty() reads the ring last' 's/const std::uint32_t tail = tail_.load[^;]*;\n[^;]*return false;(.*?)if \(tail_.load[^;]*== tail\) return true;/$1return ring_empty();/s'
mutation runq $q 'empty() does not read the tail again' 's/if \(tail_.load[^;]*== tail\) return true;/return true;/'
mutation runq $q 'get() leaves runnext in place' 's/(taken get\(\) \{.*?)      runnext_.store\(nullptr, [^\n]*\n/$1/s'

c=runtime/claim.h
mutation claim $c 'no light barrier' "s/$light//"
mutation claim $c 'no heavy barrier' "s/if \(!shares_cpu\(\)\) $heavy//"
mutation claim $c 'where is not read again' 's/now.at != seen.at \|\| //'
mutation claim $c 'the sequence is not compared' 's/now.call != seen.call \|\| //'
mutation claim $c 'leave() releases nothing' 's/(where_.store\(place::call, std::memory_order_)release/$1relaxed/'
mutation claim $c 'to_user() releases nothing' 's/(where_.store\(place::user, std::memory_order_)release/$1relaxed/'
mutation claim $c 'resume() resets nothing' 's/void resume\(\) \{[^}]*\}/void resume() {}/'
mutation claim $c 'the taker commits without CAS' 's/return revoked_.compare_exchange_strong\(expected, kTaken.*?: result::lost;/revoked_.store(kTaken, std::memory_order_release);\nreturn result::taken;/s'
mutation claim $c 'the M answers without CAS' 's/if \(revoked_.compare_exchange_weak[^;]*;/revoked_.store(0, std::memory_order_release);\nreturn true;/'
mutation claim $c 'requests without tokens' 's/\(std::uint64_t\{token\} << 2\) \| kAsked/kAsked/'
mutation claim $c 'where is set before the sequence counts' 's/(    sequence_.store\([^\n]*\n)(    where_.store\(place::call[^\n]*\n)/$2$1/'
mutation claim $c 'the M does not reset what was taken' 's/revoked_.store\(0, std::memory_order_relaxed\);//'

w=runtime/wake.h
model=tests/model/wake_model.cpp
mutation wake $w 'no light barrier' "s/$light//"
mutation wake $w 'no heavy barrier' "s/$heavy//"
mutation wake $w 'nspinning is given back after the barrier' 's/(    if \(spinning\) nspinning_[^;]*;\n)(    Policy::heavy_barrier\(\);\n)/$2$1/'
mutation wake $w 'nidle counts after the barrier' 's/(    if \(nidle_.fetch_add[^\n]*\n)(.*?)(    Policy::heavy_barrier\(\);\n)/$2$3$1/s'
mutation wake $w 'take_idle() without looking who was faster' 's/if \(word_of\(p\).fetch_and\(~bit_of\(p\), std::memory_order_acq_rel\) & bit_of\(p\)\)/word_of(p).fetch_and(~bit_of(p), std::memory_order_acq_rel);\nif (true)/'
mutation wake $model 'no second look at the queues' 's/spinning = work\(\) && gate.take_idle\(p\);/spinning = false;/'
mutation wake $model 'the last one that span wakes nobody' 's/gate.end_spinning\(\)\) wake\(\);/gate.end_spinning()) {}/'
mutation wake $model 'a wake without P does not look again' 's/if \(!gate.end_spinning\(\)\) return;/gate.end_spinning();\nreturn;/'
mutation wake $model 'the M settles before it looks again' 's/(      spinning = work.*?\n.*?\n)(      settle\(\);\n)/$2$1/'

model=tests/model/park_model.cpp
f=runtime/futex.h
mutation park $model 'the lock is released before the context is saved' 's/(    left.saved.set\(true\);\n)(    unlock\(\);\n)/$2$1/'
mutation park $model 'ready without the lock' 's/(run_readier\(\) \{\n.*?)    lock\(\);(.*?)    unlock\(\);/$1$2/s'
mutation park $model 'ready without a wake-up' 's/(runnext was free"\);\n)    wake\(\);/$1/'
mutation park $model 'the wake-up comes before the goroutine' 's/(    require\(at\(runq, p\)->put_next[^;]*;\n)(    wake\(\);\n)/$2$1/'
mutation park $f 'post() without a futex wake' 's/(    if \(before == kElsewhere\) return true;\n)    futex_wake\(word_\);/$1/'
mutation park $f 'post() releases nothing' 's/(word_.exchange\(value, std::memory_order_)acq_rel/$1relaxed/'
mutation park $model 'the P is given after the post' 's/(    at\(ms, number\).next_p.set\(p\);\n)(    at\(ms, number\).wake.post[^;]*;\n)/$2$1/'
mutation park $model 'no second look at the queues' 's/spinning = work\(\) && gate.take_idle\(p\);/spinning = false;/'
mutation park $q 'rob() takes from the batch only' 's/(      g = )runnext_.load\(std::memory_order_relaxed\);\n *runnext_.store\(nullptr, std::memory_order_relaxed\);/$1nullptr;/'
mutation park $q 'empty() does not see runnext' 's/runnext_.load\(std::memory_order_acquire\) == nullptr &&//'
mutation park $w 'no heavy barrier' "s/$heavy//"

model=tests/model/note_model.cpp
mutation note $f 'post() does not tell of one that is elsewhere' 's/if \(before == kElsewhere\) return true;\n    futex/futex/'
mutation note $f 'post() forgets one that was claimed elsewhere' 's/return before == kClaimedElsewhere;/return false;/'
mutation note $f 'post() releases nothing' 's/(word_.exchange\(value, std::memory_order_)acq_rel/$1relaxed/'
mutation note $f 'post_if_empty() does not tell of one that is elsewhere' 's/if \(expected == kElsewhere\) return true;//'
mutation note $f 'one that was claimed comes back' 's/if \(value == kClaimedElsewhere \|\| value == kClaimedHere\)/if (false)/'
mutation note $f 'one that does not sleep can be claimed' 's/(bool claim\(\) \{ return )/$1exchange(kNothing, kClaimedHere) || /'
mutation note $model 'the sleeper does not await the event' 's/    if \(told != 0 && !interrupted\) await_event\(\);\n//'
mutation note $model 'what is given is written after the post' 's/(    given.set\(1\);\n)(    if \(wake.post[^;]*;\n)/$2$1/'

model=tests/model/take_back_model.cpp
mutation take_back $c 'no light barrier' "s/$light//"
mutation take_back $c 'no heavy barrier' "s/if \(!shares_cpu\(\)\) $heavy//"
mutation take_back $c 'where is not read again' 's/now.at != seen.at \|\| //'
mutation take_back $c 'the sequence is not compared' 's/now.call != seen.call \|\| //'
mutation take_back $c 'what was asked of another P is not withdrawn' 's/ \|\| !still\(\)//'
mutation take_back $c 'the M does not reset what was taken' 's/revoked_.store\(0, std::memory_order_relaxed\);//'
mutation take_back $c 'leave() releases nothing' 's/(where_.store\(place::call, std::memory_order_)release/$1relaxed/'
mutation take_back $f 'a wake-up to look hides the P' 's/(bool post_if_empty.*?\{\n).*?\n  \}/$1    return post(value);\n  }/s'
mutation take_back $model 'a taker elsewhere takes the CPU for its own' 's/take_p\(pp, \*victim, seen, false\)/take_p(pp, *victim, seen, true)/'
mutation take_back $model 'take_p() counts the M when it has the P' 's/(take_p\(int pp.*?)    gate.begin_busy\(\);\n(.*?)(    p& taken = )/$1$2    gate.begin_busy();\n$3/s; s/(::taken\) \{\n)      settle\(\);\n/$1/'
mutation take_back $model 'free_bound() counts the M when it has the goroutine' 's/      gate.begin_busy\(\);\n(      goroutine\* const g = globrunqget\(true\);\n)      if \(!g\) return settle\(\);\n/$1      if (!g) return;\n      gate.begin_busy();\n/'
mutation take_back $model 'regain_p() wakes nobody' 's/(globrunqput\(g, kInRing\);\n)    wakep\(\);\n(    settle)/$1$2/'
mutation take_back $model 'regain_p() settles first' 's/(    globrunqput\(g, kInRing\);\n    wakep\(\);\n)(    settle_as_others_are_busy\(\);\n)/$2$1/'
mutation take_back $model 'the handler wakes nobody' 's/(globrunqput\(g, kInBound\);\n)    wakep\(\);\n/$1/'
mutation take_back $model 'the handler settles first' 's/(    globrunqput\(g, kInBound\);\n    wakep\(\);\n)(    settle_as_others_are_busy\(\);\n)/$2$1/'
mutation take_back $model 'the handler stops an M in the runtime' 's/mp.claim.look\(\).at == place::user && mp.claim.taken/mp.claim.taken/'
mutation take_back $model 'the handler stops an M that has its P' 's/ && mp.claim.taken\(\)\) park/) park/'
mutation take_back $model 'the handler queues the goroutine before it binds it' 's/(    g.lockedm.store\(mp.number[^;]*;\n)(    globrunqput\(g, kInBound\);\n)/$2$1/'
mutation take_back $model 'the handler binds nothing' 's/    g.lockedm.store\(mp.number, std::memory_order_relaxed\);\n(    globrunqput\(g, kInBound\);\n)/$1/'
mutation take_back $model 'the handler goes on at any wake-up' 's/while \(woken == kWakeToLook\);\n    require\(woken == kWakeWithP \|\|[^;]*;/while (false);/'
mutation take_back $model 'the claim is resumed before the P is acquired' 's/(    acquirep\(mp, mp.next_p.get\(\)\);\n    at[^;]*;\n)(    mp.claim.resume\(\);\n)/$2$1/'
mutation take_back $model 'the claim is not resumed' 's/    mp.claim.resume\(\);\n//'
mutation take_back $model 'a goroutine that goes on stays bound' 's/if \(mp.lockedg == kNobody\) (g.lockedm)/if (false) $1/'
mutation take_back $model 'a goroutine that goes on is no longer locked' 's/if \(mp.lockedg == kNobody\) (g.lockedm)/$1/'
mutation take_back $model 'who finds a bound goroutine runs it' 's/bound_to != kNobody && bound_to != mp.number/false/'
mutation take_back $model 'a locked M keeps its P while its goroutine waits' 's/    if \(mp.held != kNobody\) handoffp\(releasep\(mp\)\);\n//'
mutation take_back $model 'a P is handed on without a look at the queue' 's/any_work\(\) \|\| retire_p/retire_p/; s/(bool retire_p.*?)if \(any_work\(\)\) \{/$1if (false) {/s'
mutation take_back $model 'an idle P is taken and not settled' 's/(if \(take_idle\(pp\)\) \{\n)        gate.settle\(\);\n/$1/'

s=runtime/idle_stack.h
mutation idle_stack $s 'no counter beside the number' 's/\(\(head >> 32\) \+ 1\) << 32 \| number/(head >> 32) << 32 | number/'
mutation idle_stack $s 'push() releases nothing' 's/(next_head\(head, number\), std::memory_order_)acq_rel/$1relaxed/'
mutation idle_stack $s 'pop() acquires nothing' 's/(pop\(\) \{\n.*?std::memory_order_)acquire(.*?std::memory_order_)acq_rel(,\n *std::memory_order_)acquire/$1relaxed$2relaxed$3relaxed/s'
mutation idle_stack $s 'the link is written after the push' 's/(      links_\(number\).store\(static_cast<std::uint32_t>\(head\), std::memory_order_relaxed\);\n)(    \} while[^;]*;\n)/$2$1/'

m=runtime/mutex_state.h
word=runtime/weft/mutex_word.h
mutation mutex $word 'newcomers take it before the unlocker has woken somebody' 's/ && \(now < kWaiter \|\| \(now & kWoken\) != 0\)//'
mutation mutex $word 'lock_idle() acquires nothing' 's/(compare_exchange_strong\(idle, kLocked, std::memory_order_)acquire/$1relaxed/'
mutation mutex $word 'try_lock() acquires nothing' 's/(now \| kLocked, std::memory_order_)acquire/$1relaxed/'
mutation mutex $word 'unlock() releases nothing' 's/(fetch_sub\(kLocked, std::memory_order_)release/$1relaxed/'
mutation mutex $m 'lock_slow() acquires nothing' 's/(wanted, std::memory_order_)acquire/$1relaxed/'
mutation mutex $m 'unlock looks at the word again after its wake-up' 's/(  wake\(false\);\n)/$1  word.state.load(std::memory_order_relaxed);\n/'
mutation mutex $m 'unlock looks at the word again when it owes nothing' 's/(if \(left < Word::kWaiter \|\|)/word.state.load(std::memory_order_relaxed);\n  $1/'
mutation mutex $m 'the wake-up comes before the addition' 's/(  word.state.fetch_add\(Word::kWoken[^;]*;\n)(  wake\(false\);\n)/$2$1/'
mutation mutex $m 'no wake-up' 's/  wake\(false\);\n//'
mutation mutex $m 'a wake-up though somebody is awake' 's/ \|\| \(left & Word::kWoken\) != 0\)/)/'
mutation mutex $m 'the one that is woken still counts' 's/Word::kWoken - Word::kWaiter/std::uint32_t{Word::kWoken}/'
mutation mutex $m 'woken is not set' 's/Word::kWoken - Word::kWaiter/0u - Word::kWaiter/'
mutation mutex $m 'woken is not cleared' 's/if \(awake\) wanted &= ~kWoken;//'
mutation mutex $m 'a newcomer that spins keeps woken to itself' 's/awake =(\s+word.state.compare_exchange_strong)/$1/'
mutation mutex $m 'one that queues itself does not count' 's/now \+ kWaiter;/now;/'
mutation mutex $m 'no hand-over in starvation mode' 's/if \(\(left & Word::kStarving\) != 0\) return wake\(true\);//'
mutation mutex $m 'a hand-over is not marked as locked' 's/change = kLocked - kWaiter/change = 0u - kWaiter/'
mutation mutex $m 'who got it by hand-over still counts' 's/change = kLocked - kWaiter/change = kLocked/'
mutation mutex $m 'starvation mode does not end' 's/if \(!starved \|\| now \/ kWaiter == 1\) change -= kStarving;//'
mutation mutex $m 'starving is set on a mutex that nobody holds' 's/if \(starved && \(now & kLocked\) != 0\)/if (starved)/'
v=runtime/waitq.h
waiting=tests/model/waiting.h
mutation chan $v 'dequeue() leaves the tail' 's/(  else\n    )q.tail = w->prev;/$1(void)0;/'
mutation chan $v 'dequeue() leaves the head' 's/q.head.store\(w->next, std::memory_order_relaxed\);/(void)0;/'
mutation select $v 'dequeue() leaves the link of the one before' 's/w->prev->next = w->next;/(void)0;/'
mutation chan $v 'enqueue() links nothing' 's/(  if \(q.tail\)\n    )q.tail->next = w;/$1(void)0;/'
mutation chan $v 'add_all() does not run the race' 's/while \(Waiter\* const w = take_first\(q\)\) add\(w\);/while (Waiter* const w = first_of(q)) dequeue(q, w), add(w);/'
mutation chan $waiting 'close() forgets the senders' 's/    woken.add_all\(c.senders\);\n//'
mutation chan $waiting 'locks release nothing' 's/(held.store\(0, std::memory_order_)release/$1relaxed/'
mutation chan $waiting 'the locks are released before the context is saved' 's/(    self.saved.set\(true\);\n)(    release_all\(self\);\n)/$2$1/'
mutation chan $waiting 'a full buffer is not refilled' 's/(value = c.slot;\n)      wake = rt::take_first\(c.senders\);/$1      wake = nullptr;/'
mutation select $v 'who takes a waiter does not run its race' 's/return win_race\(\*w->race, w\);/return true;/'
mutation select $v 'the race is run without CAS' 's/return race.compare_exchange_strong\([^;]*;/if (race.load(std::memory_order_relaxed) != nobody) return false;\n  race.store(winner, std::memory_order_release);\n  return true;/'
mutation select $v 'take_first() gives up at a waiter that has lost' 's/if \(win\(w\)\) return w;/return win(w) ? w : nullptr;/'
mutation select $v 'take_first() leaves the waiter in its queue' 's/(take_first\(Queue& q\).*?)    dequeue\(q, w\);\n    if \(win\(w\)\) return w;/$1    if (win(w)) return w;\n    dequeue(q, w);/s'
mutation select $v 'dequeue() does not say so' 's/  w->queued = false;\n//'
mutation select $waiting 'the waiters that lost stay in their queues' 's/if \(w.queued\) rt::dequeue[^;]*;//'
mutation select $waiting 'they leave without the lock' 's/      c.guard.take\(\);\n(      if \(w.queued\) rt::dequeue[^;]*;\n)      c.guard.give\(\);/$1/'
mutation select $waiting 'the heap is unlocked before the context is saved' 's/add_lock\(thread_at\(number\), heap\);/heap.give();/'
mutation select $waiting 'the timer stays in the heap' 's/if \(limited\) disarm\(\);//'
mutation select $waiting 'the timer wakes without having won' 's/if \(won\) ready\(thread\);/ready(thread);/'
mutation select $waiting 'the race is run after the heap is unlocked' 's/(    const bool won = rt::win_race[^;]*;\n)(    heap.give\(\);\n)/$2$1/'
mutation select $waiting 'only the first lock is taken' 's/if \(i == 0 \|\| cases\[i\].chan != cases\[i - 1\].chan\) hold/if (i == 0) hold/'
o=runtime/poll_side.h
pollm=tests/model/poll_model.cpp
mutation poll $o 'an edge is not kept' 's/      ready = true;\n    \}/    }/'
mutation poll $o 'may_look() leaves the edge of before' 's/    drained = false;\n    ready = false;\n    return true;/    drained = false;\n    return true;/'
mutation poll $o 'must_wait() does not look for an edge' 's/if \(ready\) return false;//'
mutation poll $o 'a drained side keeps out who has an edge' 's/if \(drained && !ready\) return false;/if (drained) return false;/'
mutation poll $o 'the turn is taken while somebody has it' 's/if \(!taken\) \{/if (true) {/'
mutation poll $o 'the turn is passed without telling' 's/      next->success = true;/      (void)next;/'
mutation poll $o 'give_up() leaves the waiter in place' 's/    waiting = nullptr;\n//'
mutation poll $pollm 'the edge is announced before the change' 's/(      there.fetch_add[^\n]*\n)(      announced.store[^\n]*\n)/$2$1/'
mutation poll $pollm 'may_look() comes after the call' 's/    bool look = s.may_look\(\);\n    guard.give\(\);\n    int n = 0;/    guard.give();\n    int n = take();\n    guard.take();\n    bool look = s.may_look() && n == 0;\n    guard.give();/'
mutation poll $pollm 'close() forgets those that wait for their turn' 's/    others.add_all\(s.turns\);\n//'
exit $missed
