// SPDX-License-Identifier: Apache-2.0
// The HTTP API, version 1: GET /api/v1/query (https://prometheus.io/docs/prometheus/latest/querying/api/).
#include "tools/prometheus.h"

#include <curl/curl.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace weft::tools {
namespace {

using nlohmann::json;

constexpr long kConnectSeconds = 5, kPatienceSeconds = 30;
constexpr std::size_t kLargestAnswer = 64 << 20;

struct ended {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
using curl_handle = std::unique_ptr<CURL, ended>;

std::size_t append(const char* part, std::size_t, std::size_t size, void* to) {
  auto& text = *static_cast<std::string*>(to);
  if (text.size() + size > kLargestAnswer) return 0;
  text.append(part, size);
  return size;
}

std::string escaped(CURL* handle, const std::string& text) {
  char* const found = curl_easy_escape(handle, text.data(), static_cast<int>(text.size()));
  std::string result = found ? found : "";
  curl_free(found);
  return result;
}

std::string get(CURL* handle, const std::string& url) {
  std::string text;
  char reason[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_NETRC, long{CURL_NETRC_OPTIONAL});
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(handle, CURLOPT_TIMEOUT, kPatienceSeconds);
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, append);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &text);
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, reason);
  if (const CURLcode failed = curl_easy_perform(handle); failed != CURLE_OK)
    throw std::runtime_error(*reason ? reason : curl_easy_strerror(failed));
  return text;
}

std::vector<labelled_value> values_of(const json& answer) {
  if (answer.at("status") != "success") throw std::runtime_error(answer.value("error", "the query failed"));
  const json& data = answer.at("data");
  if (data.at("resultType") != "vector") throw std::runtime_error("the query's result is no vector");
  std::vector<labelled_value> all;
  for (const json& one : data.at("result"))
    all.push_back({one.at("metric").get<std::map<std::string, std::string>>(),
                   std::strtod(one.at("value").at(1).get_ref<const std::string&>().c_str(), nullptr)});
  return all;
}

}  // namespace

std::string labelled_value::label(const std::string& name) const {
  const auto found = labels.find(name);
  return found == labels.end() ? "" : found->second;
}

prometheus_server::prometheus_server(std::string url) : url_(std::move(url)) {}

std::vector<labelled_value> prometheus_server::query(const std::string& expression) const try {
  const curl_handle handle(curl_easy_init());
  if (!handle) throw std::bad_alloc();
  const std::string base = url_.ends_with('/') ? url_.substr(0, url_.size() - 1) : url_;
  const std::string text = get(handle.get(), base + "/api/v1/query?query=" + escaped(handle.get(), expression));
  const json answer = json::parse(text, nullptr, false);
  long status = 0;
  curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &status);
  if (answer.is_object() && answer.contains("status")) return values_of(answer);
  throw std::runtime_error(fmt::format("HTTP status {}, and no answer of Prometheus' API", status));
} catch (const json::exception&) {
  throw std::runtime_error(url_ + ": answers otherwise than Prometheus' API does");
} catch (const std::runtime_error& e) {
  throw std::runtime_error(url_ + ": " + e.what());
}

}  // namespace weft::tools
