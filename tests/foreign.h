// SPDX-License-Identifier: Apache-2.0
// Threads that are no Ms, for the tests of what they share with goroutines.
#pragma once

#include <thread>
#include <utility>
#include <vector>

#include <weft/runtime.h>
#include <weft/sync.h>

namespace weft::test {

class foreign_threads {
 public:
  foreign_threads() = default;
  ~foreign_threads() { join(); }
  foreign_threads(const foreign_threads&) = delete;
  foreign_threads& operator=(const foreign_threads&) = delete;

  template <class F>
  void start(F f) {
    threads_.emplace_back(std::move(f));
  }
  void join() {
    for (std::thread& t : threads_) blocking([&t] { t.join(); });
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

/// Runs f() in n goroutines and as many foreign threads at the same time, and waits for all.
template <class F>
void in_goroutines_and_threads(int n, F f) {
  wait_group done;
  foreign_threads threads;
  for (int i = 0; i < n; ++i) {
    done.go(f);
    threads.start(f);
  }
  done.wait();
  threads.join();
}

}  // namespace weft::test
