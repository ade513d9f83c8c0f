// SPDX-License-Identifier: Apache-2.0
// `weft run`: loads the probes with the privilege that it has, gives up that privilege, and becomes the program, which
// finds the probes in its descriptors.
#include "tools/run_command.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "bpf/capabilities.h"
#include "bpf/probes.h"
#include "numa/wish.h"
#include "runtime/env.h"
#include "tools/status.h"
#include "tools/usage.h"

namespace weft::tools {
namespace {

constexpr const char* kName = "weft run";
constexpr const char* kWhat = R"(Run a program with the probes, and without the privilege that loading them takes:
weft run [--user USER] [--gomaxprocs PS] [--metrics WHERE] [--costs] [--] PROGRAM [ARGUMENT]...)";
constexpr const char* kFooter = R"(
The program gets the probes as open descriptors (WEFT_BPF_FDS) and none of the privilege that loading
them took: with --user it runs as that user, without any capability; else as the user who called, without
CAP_BPF and CAP_PERFMON. Where the probes cannot be loaded, that is said in one line and the program
runs without; WEFT_KERNEL_ASSIST=bpf makes it insist.

--gomaxprocs and --metrics set GOMAXPROCS and WEFT_METRICS, whatever the environment says, once they are
known to be well formed: a number of Ps, one for each node such as node0=6,node1=2, or auto; and
HOST:PORT, where Prometheus finds the metrics, or file:/PATH.prom.

Exit status: that of the program; 126 if it cannot be run, 127 if there is none of that name, 1 if the
user cannot be changed, 2 for a wrong command line.

Examples:
  weft run --user www-data -- ./server --port 80    as root: a server with probes, but without privilege
  weft run --gomaxprocs 4 --metrics 127.0.0.1:9464 -- ./server     four Ps; curl 127.0.0.1:9464/metrics
  setcap cap_bpf,cap_perfmon+ep $(which weft)       once, as root; then anybody may:
  weft run ./server)";

constexpr int kCannotRun = 126, kNoSuchProgram = 127;  // as env(1) and the shells have it
// As many as the runtime makes use of.
constexpr std::size_t kSlots = 1024;

std::string message_of(int error) { return std::generic_category().message(error); }

struct request {
  std::string user, gomaxprocs, metrics;
  bool costs = false;
};

struct account {
  uid_t user;
  gid_t group;
  std::string name;  // empty: a number that has no name
};

// A name, or a number, which needs no entry anywhere.
std::optional<account> find_account(const std::string& text) {
  errno = 0;
  if (const passwd* const found = getpwnam(text.c_str())) return account{found->pw_uid, found->pw_gid, text};
  uid_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number == static_cast<uid_t>(-1)) return std::nullopt;
  if (const passwd* const found = getpwuid(number)) return account{number, found->pw_gid, found->pw_name};
  return account{number, number, ""};
}

// All capabilities go with the user id, since nothing asks the kernel to keep them.
bool become(const account& who) {
  const bool groups_set = who.name.empty() ? setgroups(0, nullptr) == 0 : initgroups(who.name.c_str(), who.group) == 0;
  return groups_set && setresgid(who.group, who.group, who.group) == 0 &&
         setresuid(who.user, who.user, who.user) == 0 && bpf::drop_capabilities();
}

// Null: said why, and the program does without. The descriptors are open for as long as this is there, or exec().
std::unique_ptr<bpf::probes> load_to_hand_over(bool with_costs) {
  std::string why_not;
  std::unique_ptr<bpf::probes> loaded = bpf::probes::load(kSlots, why_not);
  if (!loaded) {
    fmt::print(stderr, "{}: no probes, the program runs without: {}\n", kName, why_not);
    return nullptr;
  }
  if (with_costs && !loaded->prepare_cost(why_not))
    fmt::print(stderr, "{}: what the kernel charges cannot be measured: {}\n", kName, why_not);
  setenv("WEFT_BPF_FDS", loaded->hand_over().c_str(), 1);
  return loaded;
}

std::string has_form(const std::string& value, bool well_formed, const char* form) {
  return well_formed ? "" : fmt::format("'{}': expected {}", value, form);
}

// What CLI11 says of an option is empty where all is well.
std::string check_gomaxprocs(const std::string& value) {
  return has_form(value, numa::parse_wish(value).has_value(), numa::kWishForm);
}

std::string check_metrics(const std::string& value) {
  return has_form(value, rt::parse_metrics(value).has_value(), rt::kMetricsForm);
}

void set_environment(const request& wanted) {
  if (!wanted.gomaxprocs.empty()) setenv("GOMAXPROCS", wanted.gomaxprocs.c_str(), 1);
  if (!wanted.metrics.empty()) setenv("WEFT_METRICS", wanted.metrics.c_str(), 1);
}

int become_program(std::vector<std::string>& words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  const int error = errno;
  fmt::print(stderr, "{}: cannot run '{}': {}\n", kName, words.front(), message_of(error));
  return error == ENOENT ? kNoSuchProgram : kCannotRun;
}

}  // namespace

int run_command(int argc, char** argv) {
  request wanted;
  CLI::App app(kWhat, kName);
  app.add_option("--user", wanted.user, "Run it as this user, by name or number")->type_name("USER");
  app.add_option("--gomaxprocs", wanted.gomaxprocs, "How many Ps it has, and where: GOMAXPROCS")
      ->type_name("PS")
      ->check(check_gomaxprocs);
  app.add_option("--metrics", wanted.metrics, "Where its metrics go to: WEFT_METRICS")
      ->type_name("WHERE")
      ->check(check_metrics);
  app.add_flag("--costs", wanted.costs, "Also load what measures the kernel's own costs, for the program to switch on");
  app.prefix_command();
  app.footer(kFooter);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return e.get_exit_code() == 0 ? print_information(kName, app, e) : usage_error(kName, e.what());
  }
  std::vector<std::string> words = app.remaining();
  if (!words.empty() && words.front() == "--") words.erase(words.begin());
  if (words.empty()) return usage_error(kName, "expected a program to run");
  std::optional<account> as;
  if (!wanted.user.empty() && !(as = find_account(wanted.user)))
    return usage_error(kName, fmt::format("no user '{}'", wanted.user));
  const std::unique_ptr<bpf::probes> probes = load_to_hand_over(wanted.costs);
  if (as && !become(*as)) {
    fmt::print(stderr, "{}: cannot become user '{}': {}\n", kName, wanted.user, message_of(errno));
    return kStatusFailed;
  }
  if (!as && !bpf::drop_capabilities()) {
    fmt::print(stderr, "{}: cannot give up capabilities: {}\n", kName, message_of(errno));
    return kStatusFailed;
  }
  set_environment(wanted);
  return become_program(words);
}

}  // namespace weft::tools
