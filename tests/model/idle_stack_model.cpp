// SPDX-License-Identifier: Apache-2.0
// idle_stack: three threads pop and push three objects. Whoever has popped an object has it alone (its plain data is
// written without a race), none is lost and none comes twice.
//
// Mutations that it catches (mutations.sh): the counter beside the number left out (ABA); pop acquires nothing; push
// releases nothing.
#include "tests/model/model.h"

#include "runtime/idle_stack.h"

namespace {

using namespace weft::model;

constexpr std::uint32_t kObjects = 3;
using link_words = std::array<fences::atomic<std::uint32_t>, kObjects>;

struct links {
  link_words* words;
  fences::atomic<std::uint32_t>& operator()(std::uint32_t number) const { return (*words)[number]; }
};
using stack = weft::rt::idle_stack<links, fences>;

template <int Threads, int Rounds>
struct exchange : suite<exchange<Threads, Rounds>, Threads> {
  link_words words;
  stack free{links{&words}};
  std::array<var<int>, kObjects> holders;  // 0: in the stack

  void before() {
    for (std::uint32_t i = 0; i < kObjects; ++i) free.push(i);
  }
  void hold(std::uint32_t number, int holder) {
    require(number < kObjects, "pop gives an object");
    require(holders[number].get() == 0, "what pop gives is nobody else's");
    holders[number].set(holder);
  }
  void put_back(std::uint32_t number) {
    holders[number].set(0);
    free.push(number);
  }
  void thread(unsigned index) {
    const int me = static_cast<int>(index) + 1;
    for (int round = 0; round < Rounds; ++round) {
      const std::uint32_t first = free.pop();
      if (first == stack::kNone) continue;
      hold(first, me);
      const std::uint32_t second = free.pop();
      if (second != stack::kNone) hold(second, me);
      put_back(first);
      if (second != stack::kNone) put_back(second);
    }
  }
  void after() {
    for (std::uint32_t i = 0; i < kObjects; ++i) hold(free.pop(), 1);
    require(free.empty() && free.pop() == stack::kNone, "the stack ends empty");
  }
};

}  // namespace

int main(int argc, char** argv) {
  checker check("idle_stack", argc, argv);
  check.random<exchange<3, 2>>("three threads", 60000);
  check.bounded<exchange<2, 1>>("two threads, bounded", 2);
  return check.finish();
}
