// SPDX-License-Identifier: Apache-2.0
// Reading files and feeding them to OpenSSL's EVP.
#include "tools/digest.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <stdexcept>

#include <weft/runtime.h>

namespace weft::tools {

namespace {

// OpenSSL reports by return values that cannot fail once the algorithm has been fetched.
void require(int ok) {
  if (ok != 1) throw std::runtime_error("OpenSSL cannot compute SHA-256");
}

/// A descriptor to read from. Nothing here may be called but within weft::blocking().
class input {
 public:
  input() = default;
  input(const input&) = delete;
  input& operator=(const input&) = delete;
  ~input() { close(); }

  int open(const std::string& path) {
    if (path == "-") {
      fd_ = STDIN_FILENO;
      return 0;
    }
    do {
      fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
    } while (fd_ < 0 && errno == EINTR);
    return fd_ < 0 ? errno : 0;
  }

  /// Reads until the buffer is full or the file has ended: less than asked is the end.
  int read_full(unsigned char* to, std::size_t size, std::size_t& got) {
    got = 0;
    while (got < size) {
      const ssize_t n = ::read(fd_, to + got, size - got);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      if (n == 0) return 0;
      got += static_cast<std::size_t>(n);
    }
    return 0;
  }

  // Twice the kernel's read-ahead: worth a call only for a file of several buffers.
  void expect_sequential_reads() { ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL); }

  void close() {
    if (fd_ > STDIN_FILENO) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

}  // namespace

void evp_free::operator()(evp_md_st* algorithm) const { EVP_MD_free(algorithm); }
void evp_free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

hasher::hasher(const evp_md_st* sha256)
    : sha256_(sha256),
      context_(EVP_MD_CTX_new()),
      buffer_(std::make_unique_for_overwrite<unsigned char[]>(kBufferSize)) {
  require(context_ != nullptr);
}

int hasher::hash(const std::string& path, sha256_digest& result, const std::function<bool(std::size_t)>& progress) {
  input file;
  std::size_t got = 0;
  int error = blocking([&] {
    const int open_error = file.open(path);
    if (open_error != 0) return open_error;
    const int read_error = file.read_full(buffer_.get(), kBufferSize, got);
    if (read_error != 0 || got < kBufferSize)
      file.close();
    else
      file.expect_sequential_reads();
    return read_error;
  });
  if (error != 0) return error;

  require(EVP_DigestInit_ex2(context_.get(), sha256_, nullptr));
  for (;;) {
    require(EVP_DigestUpdate(context_.get(), buffer_.get(), got));
    if (!progress(got) || got < kBufferSize) break;
    error = blocking([&] { return file.read_full(buffer_.get(), kBufferSize, got); });
    if (error != 0) return error;
  }
  require(EVP_DigestFinal_ex(context_.get(), result.data(), nullptr));
  return 0;
}

hasher_pool::hasher_pool(int limit) : room_(limit), sha256_(EVP_MD_fetch(nullptr, "SHA256", nullptr)) {
  if (!sha256_) throw std::runtime_error("OpenSSL offers no SHA-256");
}

std::unique_ptr<hasher> hasher_pool::take() {
  {
    const std::lock_guard hold(lock_);
    if (!idle_.empty()) {
      std::unique_ptr<hasher> last = std::move(idle_.back());
      idle_.pop_back();
      return last;
    }
  }
  return std::make_unique<hasher>(sha256_.get());
}

void hasher_pool::put_back(std::unique_ptr<hasher> unused) {
  const std::lock_guard hold(lock_);
  idle_.push_back(std::move(unused));
}

}  // namespace weft::tools
