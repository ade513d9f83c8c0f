// SPDX-License-Identifier: Apache-2.0
// SHA-256 of a file, and the bounded pool of what that takes.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <weft/sync.h>

#include "tools/sum_line.h"

struct evp_md_st;
struct evp_md_ctx_st;

namespace weft::tools {

struct evp_free {
  void operator()(evp_md_st* algorithm) const;
  void operator()(evp_md_ctx_st* context) const;
};

/// One reusable SHA-256 computation with the buffer that feeds it.
class hasher {
 public:
  // A file that fits is read by one read(2) and found to have ended by a second.
  static constexpr std::size_t kBufferSize = 256 * 1024;

  explicit hasher(const evp_md_st* sha256);

  /// Hashes what the path holds ("-": standard input) within weft::blocking(), a buffer at a time. `progress` is told
  /// of each buffer's bytes; when it returns false, the rest is left. Returns an errno, or 0.
  int hash(const std::string& path, sha256_digest& result, const std::function<bool(std::size_t)>& progress);

 private:
  const evp_md_st* sha256_;
  std::unique_ptr<evp_md_ctx_st, evp_free> context_;
  std::unique_ptr<unsigned char[]> buffer_;
};

/// At most so many hashers at a time; the one used last is used next, since its buffer is in the cache.
class hasher_pool {
 public:
  explicit hasher_pool(int limit);

  /// Waits until there is room for one more user of the pool. Balanced by release().
  void reserve() { room_.acquire(); }
  void release() { room_.release(); }

  /// A hasher, for who has reserved one.
  std::unique_ptr<hasher> take();
  void put_back(std::unique_ptr<hasher> unused);

 private:
  semaphore room_;
  std::unique_ptr<evp_md_st, evp_free> sha256_;
  mutex lock_;
  std::vector<std::unique_ptr<hasher>> idle_;  // guarded by lock_
};

}  // namespace weft::tools
