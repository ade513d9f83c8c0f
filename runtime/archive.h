// SPDX-License-Identifier: Apache-2.0
// Values as bytes and back, for who asks from another process (export.h). What a struct consists of is said once, by
// its fields(), for both directions; whoever changes one changes kExportVersion.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "runtime/ps_trial.h"
#include "weft/attach.h"
#include "weft/error.h"

namespace weft::rt {

template <class A>
void fields(A& a, metrics::p_snapshot& v) {
  a(v.p, v.node, v.cpu, v.state, v.queued, v.counters);
}
template <class A>
void fields(A& a, metrics::node_snapshot& v) {
  a(v.node, v.gomaxprocs, v.idle_ps, v.spinning, v.queued, v.histograms, v.counters, v.stacks);
}
template <class A>
void fields(A& a, metrics::snapshot& v) {
  a(v.histograms, v.counters, v.nodes, v.ps, v.goroutines, v.threads);
}
template <class A>
void fields(A& a, metrics::cost& v) {
  a(v.seconds, v.samples);
}
template <class A>
void fields(A& a, metrics::block_costs::share& v) {
  a(v.limit, v.count);
}
template <class A>
void fields(A& a, metrics::block_costs& v) {
  a(v.syscall, v.blocks, v.wait, v.lasted);
}
template <class A>
void fields(A& a, metrics::node_costs& v) {
  a(v.node, v.costs, v.blocks, v.idle);
}
template <class A>
void fields(A& a, goroutine_group::member& v) {
  a(v.id, v.since, v.name);
}
template <class A>
void fields(A& a, goroutine_group& v) {
  a(v.state, v.stack, v.creator, v.members);
}

template <class A>
void fields(A& a, process_ps::on_node& v) {
  a(v.node, v.ps, v.cpus);
}
template <class A>
void fields(A& a, process_ps& v) {
  a(v.wish, v.on_trial, v.nodes);
}
template <class A>
void fields(A& a, ps_request& v) {
  a(v.change, v.wish, v.trial_ns);
}
template <class A>
void fields(A& a, ps_answer& v) {
  a(v.refusal, v.ps);
}

class packer {
 public:
  template <class... T>
  void operator()(T&... values) {
    (put(values), ...);
  }
  std::string take() { return std::move(bytes_); }

 private:
  template <class T>
  void put(T& value) {
    if constexpr (std::is_floating_point_v<T>)
      word(std::bit_cast<std::uint64_t>(static_cast<double>(value)));
    else if constexpr (std::is_integral_v<T>)
      word(static_cast<std::uint64_t>(value));
    else
      fields(*this, value);
  }
  void put(std::string& value) { text(value); }
  template <class T>
  void put(std::vector<T>& values) {
    word(values.size());
    for (T& value : values) put(value);
  }
  template <class T>
  void put(std::map<std::string, T>& values) {
    word(values.size());
    for (auto& [name, value] : values) {
      text(name);
      put(value);
    }
  }
  void put(metrics::histogram& value) {
    const std::vector<metrics::histogram::bucket> buckets = value.buckets();
    word(static_cast<std::uint64_t>(std::llround(value.sum() * 1e9)));
    word(static_cast<std::uint64_t>(std::llround(value.max() * 1e9)));
    word(buckets.size());
    for (const metrics::histogram::bucket& each : buckets) {
      word(static_cast<std::uint64_t>(std::llround(each.lower * 1e9)));
      word(each.count);
    }
  }
  void text(std::string_view value) {
    word(value.size());
    bytes_ += value;
  }
  void word(std::uint64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof value); }

  std::string bytes_;
};

/// Throws `error` where the bytes are not what a packer made.
class unpacker {
 public:
  explicit unpacker(std::string_view bytes) : left_(bytes) {}

  template <class... T>
  void operator()(T&... values) {
    (get(values), ...);
  }
  void end() const {
    if (!left_.empty()) refuse();
  }

 private:
  template <class T>
  void get(T& value) {
    if constexpr (std::is_floating_point_v<T>)
      value = std::bit_cast<double>(word());
    else if constexpr (std::is_integral_v<T>)
      value = static_cast<T>(word());
    else
      fields(*this, value);
  }
  void get(std::string& text) { text = take(word()); }
  template <class T>
  void get(std::vector<T>& values) {
    for (std::uint64_t n = word(); n > 0; --n) get(values.emplace_back());
  }
  template <class T>
  void get(std::map<std::string, T>& values) {
    for (std::uint64_t n = word(); n > 0; --n) {
      std::string name;
      get(name);
      get(values[name]);
    }
  }
  void get(metrics::histogram& value) {
    value.add(0, 0, word());
    value.add_max(word());
    for (std::uint64_t n = word(); n > 0; --n) {
      const int bucket = metrics::histogram::bucket_of(word());
      value.add(bucket, word(), 0);
    }
  }
  std::uint64_t word() {
    std::uint64_t value = 0;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view take(std::uint64_t size) {
    if (size > left_.size()) refuse();
    const std::string_view part = left_.substr(0, size);
    left_.remove_prefix(size);
    return part;
  }

  [[noreturn]] static void refuse() { throw error("what the process tells of itself is damaged"); }

  std::string_view left_;
};

template <class T>
std::string packed(T value) {
  packer to;
  to(value);
  return to.take();
}

template <class T>
T unpacked(std::string_view bytes) {
  T value{};
  unpacker from(bytes);
  from(value);
  from.end();
  return value;
}

}  // namespace weft::rt
