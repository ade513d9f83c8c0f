# SPDX-License-Identifier: Apache-2.0
#
# Builds, tests and installs weft. `make` lists the targets.
#
# Everything generated is below $(BUILD), one folder a configuration (release, tsan, asan), where a product stands under
# the path of its source. The targets that a user calls check for packages and then call make again on the targets below
# "Building", so that nothing is compiled before what it needs is there, and so that a build is parallel by default.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

ifeq ($(origin CXX),default)
CXX := g++
endif
CXXFLAGS ?= -O2 -g
BUILD    ?= build
CONFIG   ?= release
PREFIX   ?= /usr/local
PATHS    ?= /usr/include
TIMEOUT  ?= 120
PYTHON   ?= python3

VERSION   := 0.1.0
SOVERSION := 0
B         := $(BUILD)/$(CONFIG)

# The probes need clang for their programs, bpftool for the skeletons, libbpf. Without one of them there are none.
BPF_ARCH    := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(filter x86_64 aarch64,$(shell uname -m))))
BPF_CLANG   ?= $(shell command -v clang)
BPFTOOL     ?= $(shell PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v bpftool)
BPF_HEADERS := $(wildcard $(addsuffix /include/bpf/bpf_core_read.h,/usr /usr/local))
HAVE_BPF    := $(if $(and $(BPF_ARCH),$(BPF_CLANG),$(BPFTOOL),$(BPF_HEADERS)),yes)
HAVE_URING  := $(wildcard $(addsuffix /include/liburing.h,/usr /usr/local))
HAVE_GD     := $(wildcard $(addsuffix /include/gd.h,/usr /usr/local))
BPF_PROGRAM := $(if $(HAVE_BPF),$(wildcard bpf/*.bpf.c))
NO_BPF_SRC  := bpf/absent.cpp bpf/capabilities.cpp bpf/pmu.cpp bpf/slot.cpp

LIB_SRC     := $(filter-out runtime/$(if $(HAVE_URING),no_,)file_ring.cpp,$(wildcard runtime/*.cpp numa/*.cpp)) \
  $(if $(HAVE_BPF),$(filter-out bpf/absent.cpp,$(wildcard bpf/*.cpp)),$(NO_BPF_SRC))
TOOL_SRC    := $(filter-out tools/$(if $(HAVE_GD),no_,)heat_picture.cpp,$(wildcard tools/*.cpp))
GTEST_SRC   := $(wildcard tests/unit/*.cpp tests/conformance/*.cpp tests/stress/*.cpp)
MODEL_SRC   := $(wildcard tests/model/*.cpp)
EXAMPLE_SRC := $(wildcard tests/examples/*.cpp)
BENCH_SRC   := $(wildcard tests/bench/*.cpp)
PEER_SRC    := $(wildcard tests/bench/peers/*.cpp)
SIM_SRC     := $(wildcard tests/sim/*.cpp)
# What reads the kernel, or depends on what it tells.
VM_TESTS    := unit/probes_test unit/doctor_test unit/numa_test conformance/assist_test \
  conformance/blocking_kinds_test conformance/fault_test conformance/fork_test conformance/net_nodes_test \
  conformance/nodes_test
KERNELS     := 5.10 6.1 6.12 7.2
SHAPES      := 1n 2n
# The one machine of `make test`: what the machine itself may lack or must not do. A minute where it is emulated.
CI_KERNEL   := 6.1
CI_SHAPE    := 2n
CI_VM_TESTS := unit/probes_test unit/doctor_test unit/numa_test conformance/assist_test conformance/fault_test
CI_VM_CASES := -*/fault.stop*:*/fault.*debugger*:*/fault.*moved*:*/fault.*sentinels*
PACKAGE_IN  := $(wildcard tools/*.in) tools/weft.1
SHARED      := tools/weft-gdb.py tools/weft-grafana.json tools/weft-rules.yml \
  tools/weft-profile-daemonset.yml
COMPLETION  := tools/weft-completion.bash
HEADERS     := $(wildcard runtime/weft/*.h numa/weft/*.h)

# -- User's targets ----------------------------------------------------------------------------------------------------

# The user's -j counts where there is one; it can be seen only while a recipe runs.
parallel   = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
build_with = +$(MAKE) --no-print-directory $(parallel)
ifneq ($(findstring output-sync,$(.FEATURES)),)
build_with += --output-sync=target
endif
need      := CXX='$(CXX)' sh tools/deps.sh
run_tests := $(PYTHON) tests/run_tests.py --timeout $(TIMEOUT)
# 1: kernels, 2: shapes
in_machines = $(PYTHON) tests/vm/run.py --cache $(BUILD)/vm $(1:%=--kernel %) $(2:%=--shape %)
ci_machine  = $(call in_machines,$(CI_KERNEL),$(CI_SHAPE)) --if-possible --filter="$(CI_VM_CASES)" \
  $(CI_VM_TESTS:%=$(BUILD)/release/tests/%)

RUN_DEPS   := g++ libboost-context-dev libnuma-dev libssl-dev libunwind-dev libdw-dev libcli11-dev libfmt-dev \
  nlohmann-json3-dev libncurses-dev libcurl4-openssl-dev libhttp-parser-dev valgrind clang? bpftool? libbpf-dev? \
  liburing-dev? libgd-dev?
TEST_DEPS  := $(RUN_DEPS) pkg-config libgtest-dev libgmock-dev relacy-dev python3 prometheus?
BENCH_DEPS := $(RUN_DEPS) libboost-fiber-dev golang-go wrk python3 python3-matplotlib
SIM_DEPS   := $(RUN_DEPS) python3 python3-matplotlib
VM_DEPS    := $(TEST_DEPS) qemu-system-x86 busybox-static cpio binutils
LINT_DEPS  := $(sort $(TEST_DEPS) $(BENCH_DEPS) clang-format clang-tidy)

.PHONY: help run test sanitize vmtest bench bench-scale sim doc install uninstall format lint clean deps
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do \
	  printf '  make %-12s %s\n' "$$name" "$$what"; done
	@echo
	@echo '  Variables: CXX=$(CXX) CXXFLAGS="$(CXXFLAGS)" BUILD=$(BUILD) V=1 (show the commands)'

run: ## hash every file below PATHS (/usr/include), compare with sha256sum, show the histograms
	@$(need) $(RUN_DEPS)
	@$(build_with) command
	@sh tools/verify_sum.sh $(B)/weft $(PATHS)

test: ## build and run all suites, the same under the sanitizers in short form, and some in a virtual machine if QEMU is there
	@$(need) $(TEST_DEPS)
	@rm -f $(BUILD)/test-summary
	@$(build_with) CONFIG=release tests
	@$(build_with) CONFIG=tsan quick
	@$(build_with) CONFIG=asan quick
	@$(run_tests) --quick-sanitizers --summary $(BUILD)/test-summary \
	  --also '$(ci_machine)' \
	  $(call all_tests,release) $(call quick_bins,tsan) $(call quick_bins,asan)

sanitize: ## run the full suites under TSan, and under ASan with UBSan
	@$(need) $(TEST_DEPS)
	@$(build_with) CONFIG=tsan gtests
	@$(build_with) CONFIG=asan gtests
	@$(run_tests) $(call gtest_bins,tsan) $(call gtest_bins,asan)

vmtest: ## run what depends on the kernel in virtual machines; KERNELS="5.10 6.1 6.12 7.2" SHAPES="1n 2n" (also 4n smt cpuless memless ccx)
	@$(need) $(VM_DEPS)
	@$(build_with) CONFIG=release gtests
	@$(call in_machines,$(KERNELS),$(SHAPES)) $(VM_TESTS:%=$(BUILD)/release/tests/%)

bench: ## compare with Go, Boost.Fiber and threads; FILTER=chan runs a part
	@$(need) $(BENCH_DEPS)
	@$(build_with) CONFIG=release benches
	@$(PYTHON) tests/bench/run.py --build-dir $(BUILD)/release --output $(BUILD)/bench --filter '$(FILTER)' $(BENCH_ARGS)

bench-scale: ## how the costs grow with goroutines, Ps and timers
	@$(MAKE) --no-print-directory bench BENCH_ARGS='--scale $(BENCH_ARGS)'

sim: ## simulate the scheduling policy beside Go's on 1 to 16 NUMA nodes; SIM_ARGS="--seed 7 --nodes 2,4 --work server"
	@$(need) $(SIM_DEPS)
	@$(build_with) CONFIG=release simulator
	@$(PYTHON) tests/sim/run.py --program $(BUILD)/release/tests/sim/sim --output $(BUILD)/sim $(SIM_ARGS)

doc: ## the reference of the public headers, in build/doc; a name without a docstring is an error
	@$(need) doxygen
	@mkdir -p $(BUILD)/doc
	@{ cat .doxygen; printf '%s\n' 'PROJECT_NUMBER = $(VERSION)' 'INPUT = $(HEADERS)' 'OUTPUT_DIRECTORY = $(BUILD)/doc'; } | \
	  doxygen -
	@echo 'Read $(BUILD)/doc/index.html'

install: ## install headers, libraries, command and man page; PREFIX=/usr/local DESTDIR=
	@$(need) $(RUN_DEPS)
	@$(build_with) CONFIG=release libraries command
	@$(MAKE) --no-print-directory copy-files
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ]; then ldconfig || true; fi

uninstall: ## remove what install put below PREFIX
	rm -f $(INSTALLED)
	rm -rf $(addprefix $(DESTDIR)$(PREFIX)/,include/weft lib/cmake/weft share/weft)

format: ## lay the sources out with clang-format
	@$(need) clang-format
	@$(sources) | xargs -0 clang-format -i

lint: ## check the layout of all sources, and with clang-tidy the changed ones; LINT=all for all
	@$(need) $(LINT_DEPS)
	@$(sources) | xargs -0 clang-format --dry-run -Werror
	@$(build_with) CONFIG=release links skeletons
	@$(if $(filter all,$(LINT)),$(sources),$(changed)) | grep -z '\.cpp$$' | \
	  LINT_FLAGS='$(STD) $(CPPFLAGS_ALL)' xargs -0 -r -n1 -P"$$(nproc)" sh tools/lint.sh

clean: ## remove everything that was built
	rm -rf $(BUILD)

deps: ## install every package that any target needs
	@$(need) $(sort $(LINT_DEPS) doxygen)

sources = find runtime numa bpf tools tests -name '*.cpp' -print0 -o -name '*.h' -print0
changed = { git diff -z --name-only --diff-filter=d HEAD 2>/dev/null; git ls-files -z --others --exclude-standard; }

# -- Flags -------------------------------------------------------------------------------------------------------------

# What is generated is below $(B), and is nothing that warnings could help.
# Public headers are reached through links, not through -Iruntime, where a header of ours could hide the system's.
INCLUDE      := $(BUILD)/include
INCLUDES     := $(INCLUDE)/runtime/weft $(INCLUDE)/numa/weft
CPPFLAGS_ALL  = -I$(INCLUDE)/runtime -I$(INCLUDE)/numa -I. -isystem $(B) $(CPPFLAGS)
STD          := -std=c++20
WARNINGS     := -Wall -Wextra -Werror
ifeq ($(findstring clang,$(shell $(CXX) --version 2>/dev/null)),)
# g++ 12 sees an overlap in std::string's operator+ (GCC bug 105651).
WARNINGS     += -Wno-restrict
# ThreadSanitizer does not model fences; the protocols' tests tell whether that hides or invents a race. With
# instrumentation in the way, g++ loses what it knew of values: their ranges, and that they are initialised.
WARN_san     := -Wno-maybe-uninitialized -Wno-format-truncation
WARN_tsan    := -Wno-tsan $(WARN_san)
WARN_asan    := $(WARN_san)
endif

OPT_release := $(CXXFLAGS)
OPT_tsan    := -O1 -g1 -fsanitize=thread
OPT_asan    := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all
# Compiling the tests is most of the work of `make test`: what their own code needs not (what is under test is compiled
# as ever, templates aside) is left out. The two checks take a third of it, and what they find in a test crashes anyway.
TEST_tsan    := -Og
TEST_asan    := -Og -fno-sanitize=null,alignment
OPT         := $(OPT_$(CONFIG)) $(WARN_$(CONFIG)) -fno-omit-frame-pointer -pthread
CODEGEN     := -fPIC -fno-semantic-interposition
ifeq ($(shell uname -m),x86_64)
CODEGEN     += -mno-red-zone# for jump() in runtime/switch.h
endif
CXX_ALL      = $(CXX) $(STD) $(WARNINGS) $(OPT) $(CODEGEN) $(CPPFLAGS_ALL)

# libunwind defines _Unwind_RaiseException and its kin too: libgcc_s has to come first, needed or not, or libunwind
# throws the program's exceptions.
GCC_S     := -Wl,--push-state,--no-as-needed,-lgcc_s,--pop-state
LIB_LIBS  := $(GCC_S) -lnuma $(if $(HAVE_BPF),-lbpf) $(if $(HAVE_URING),-luring) -lunwind -ldw -lhttp_parser -lpthread
TOOL_LIBS := -lfmt -lcrypto -lcurl -lncurses++w -lncursesw -ltinfo $(if $(HAVE_GD),-lgd)
TEST_LIBS := -lgtest_main -lgmock -lgtest $(LIB_LIBS) -Wl,--as-needed $(TOOL_LIBS)
PEER_LIBS := -lboost_fiber -lboost_context -lpthread

ifeq ($(V),)
say = @printf '  %-5s %s\n' $(1) '$(2)';
endif

# -- Building ----------------------------------------------------------------------------------------------------------

bin          = $(patsubst %.cpp,$(BUILD)/$(1)/%,$(2))
gtest_bins   = $(call bin,$(1),$(GTEST_SRC))
model_bins   = $(call bin,$(1),$(MODEL_SRC))
example_bins = $(call bin,$(1),$(EXAMPLE_SRC))
# The short form leaves out what is about dying and about a hostile world: sanitizers add little there, and much time.
quick_bins   = $(filter-out %/crash_test %/degraded_test %/fault_test %/fork_test,$(call gtest_bins,$(1)))
all_tests    = $(call gtest_bins,$(1)) $(call model_bins,$(1)) $(call example_bins,$(1))

LIB_OBJ  := $(LIB_SRC:%.cpp=$(B)/%.o)
SKELETON := $(BPF_PROGRAM:%.bpf.c=$(B)/%.skel.h)
SYSCALLS := $(B)/runtime/syscall_names.inc
TOOL_OBJ := $(TOOL_SRC:%.cpp=$(B)/%.o)
SO_FILE  := libweft.so.$(VERSION)
SO_NAME  := libweft.so.$(SOVERSION)
STAGE     = $(abspath $(BUILD)/stage)
SIM_OBJ  := $(patsubst %.cpp,$(B)/%.o,$(SIM_SRC))
OBJECTS  := $(patsubst %.cpp,$(B)/%.o,$(LIB_SRC) $(TOOL_SRC) $(GTEST_SRC) $(BENCH_SRC) $(PEER_SRC) $(SIM_SRC))
DEPFILES := $(OBJECTS:.o=.d) $(addsuffix .d,$(call model_bins,$(CONFIG)) $(call example_bins,$(CONFIG)))

links: $(INCLUDES)
.PHONY: links command libraries skeletons gtests quick tests benches simulator copy-files FORCE
.SECONDARY: $(OBJECTS)
command: $(B)/weft
libraries: $(B)/libweft.a $(B)/$(SO_FILE)
skeletons: $(SKELETON) $(SYSCALLS)
gtests: $(call gtest_bins,$(CONFIG)) $(B)/weft
quick: $(call quick_bins,$(CONFIG)) $(B)/weft
tests: gtests $(call model_bins,$(CONFIG)) $(call example_bins,$(CONFIG))
benches: $(call bin,$(CONFIG),$(BENCH_SRC) $(PEER_SRC))
simulator: $(B)/tests/sim/sim
links command libraries skeletons gtests quick tests benches simulator: ; @:

# Two stamps change when what they hold changes: the compiler's command, and what is linked.
$(B)/flags: contents = $(VERSION) $(shell $(CXX) -dumpfullversion -dumpversion) $(CXX_ALL) $(LDFLAGS)
$(B)/parts: contents = $(LIB_SRC) $(TOOL_SRC) $(LIB_LIBS) $(TOOL_LIBS)
$(B)/flags $(B)/parts: FORCE
	@mkdir -p $(@D)
	@echo '$(contents)' | cmp -s - $@ || echo '$(contents)' > $@

$(INCLUDES): $(INCLUDE)/%: | %
	@mkdir -p $(@D)
	@ln -sfn '$(CURDIR)/$*' $@

$(OBJECTS): $(B)/%.o: %.cpp $(B)/flags | $(INCLUDES)
	@mkdir -p $(@D)
	$(call say,CXX,$@)$(CXX_ALL) $(EXTRA) -MMD -MP -c $< -o $@

$(TOOL_OBJ): EXTRA = -DWEFT_VERSION='"$(VERSION)"'
$(GTEST_SRC:%.cpp=$(B)/%.o): EXTRA = $(TEST_$(CONFIG))
# It looks at pictures with what draws them.
$(B)/tests/unit/heat_map_test.o: EXTRA += $(if $(HAVE_GD),,-DNO_GD)
$(B)/tests/unit/heat_map_test.o: $(B)/parts

# No kernel headers and no kernel's types are needed: the programs fit themselves to the kernel that loads them.
$(SKELETON): $(B)/%.skel.h: %.bpf.c $(wildcard bpf/*.h) $(B)/flags
	@mkdir -p $(@D)
	$(call say,BPF,$@)$(BPF_CLANG) -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Werror -D__TARGET_ARCH_$(BPF_ARCH) \
	  -fdebug-compilation-dir=. -c $< -o $(@:.skel.h=.full.o) && \
	  $(BPFTOOL) gen object $(@:.skel.h=.bpf.o) $(@:.skel.h=.full.o) && \
	  $(BPFTOOL) gen skeleton $(@:.skel.h=.bpf.o) name $(basename $(*F))_bpf > $@

$(B)/bpf/loader.o: $(SKELETON)

# System calls by number, from the kernel's headers.
$(SYSCALLS): $(B)/flags
	@mkdir -p $(@D)
	$(call say,NAMES,$@)echo '#include <sys/syscall.h>' | $(CXX) -E -dM -x c - | \
	  sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$$/{\2, "\1"},/p' > $@

$(B)/runtime/syscall_name.o: $(SYSCALLS)

# Boost.Context's objects go in too: who links weft needs no Boost.
$(B)/libweft.a: $(LIB_OBJ) $(B)/parts
	$(if $(HAVE_BPF),,@echo 'weft: no clang, bpftool or libbpf-dev: the library is built without the bpf tier')
	$(call say,AR,$@)rm -rf $@ $(B)/boost && mkdir -p $(B)/boost && \
	  (cd $(B)/boost && ar x "$$($(CXX) -print-file-name=libboost_context.a)") && \
	  ar rcs $@ $(LIB_OBJ) $(B)/boost/*.o

$(B)/$(SO_FILE): $(LIB_OBJ) $(B)/parts
	$(call say,LINK,$@)$(CXX) $(OPT) -shared -Wl,-soname,$(SO_NAME) -Wl,-z,defs -Wl,--exclude-libs,libboost_context.a \
	  $(LIB_OBJ) -l:libboost_context.a $(LDFLAGS) $(LIB_LIBS) -o $@

# The tests may use what the command is made of, so all of it but main() is an archive of its own.
$(B)/libtools.a: $(filter-out $(B)/tools/main.o,$(TOOL_OBJ)) $(B)/parts
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $(filter %.o,$^)

$(B)/weft: $(B)/tools/main.o $(B)/libtools.a $(B)/libweft.a
	$(call say,LINK,$@)$(CXX) $(OPT) $^ $(LDFLAGS) $(LIB_LIBS) $(TOOL_LIBS) -o $@

$(B)/tests/unit/sim_test: $(filter-out %/sim.o,$(SIM_OBJ))
$(call gtest_bins,$(CONFIG)): %: %.o $(B)/libtools.a $(B)/libweft.a
	$(call say,LINK,$@)$(CXX) $(OPT) $(filter %.o,$^) $(filter %.a,$^) $(LDFLAGS) $(TEST_LIBS) -o $@

$(B)/tests/sim/sim: $(SIM_OBJ) $(B)/libweft.a
	$(call say,LINK,$@)$(CXX) $(OPT) $^ $(LDFLAGS) $(LIB_LIBS) -lfmt -o $@

$(call bin,$(CONFIG),$(BENCH_SRC)): %: %.o $(B)/libweft.a
	$(call say,LINK,$@)$(CXX) $(OPT) $^ $(LDFLAGS) $(LIB_LIBS) -o $@

$(call bin,$(CONFIG),$(PEER_SRC)): %: %.o
	$(call say,LINK,$@)$(CXX) $(OPT) $^ $(LDFLAGS) $(PEER_LIBS) -o $@

# Relacy replaces the atomics and the threads, so a model is one program by itself. Relacy's folder holds a pthread.h of
# its own and must be searched last.
$(call model_bins,$(CONFIG)): $(B)/%: %.cpp $(B)/flags
	@mkdir -p $(@D)
	$(call say,MODEL,$@)$(CXX) $(STD) $(WARNINGS) $(OPT) $(CPPFLAGS_ALL) -idirafter /usr/include/relacy \
	  -MMD -MP -MF $@.d $< -o $@

# Examples see what an installation has and nothing else: its headers, its .pc file, the shared library.
$(call example_bins,$(CONFIG)): $(B)/%: %.cpp $(B)/flags $(BUILD)/stage/done
	@mkdir -p $(@D)
	$(call say,CXX,$@)$(CXX) $(STD) $(WARNINGS) $(OPT) -MMD -MP -MF $@.d $< -o $@ \
	  $$(PKG_CONFIG_PATH='$(STAGE)/lib/pkgconfig' pkg-config --cflags --libs weft) -Wl,-rpath,'$(STAGE)/lib' $(EXAMPLE_LIBS)
$(B)/tests/examples/http_server: EXAMPLE_LIBS := -lhttp_parser

$(BUILD)/stage/done: $(B)/libweft.a $(B)/$(SO_FILE) $(B)/weft $(HEADERS) $(PACKAGE_IN) $(SHARED) $(COMPLETION)
	@$(MAKE) --no-print-directory copy-files PREFIX='$(STAGE)' DESTDIR=
	@touch $@

# -- Installing --------------------------------------------------------------------------------------------------------

to        = $(DESTDIR)$(PREFIX)
fill_in   = sed -e "s|@PREFIX@|$(PREFIX)|g; s|@VERSION@|$(VERSION)|g; s|@SOVERSION@|$(SOVERSION)|g" \
  -e "s|@LIBS@|$(LIB_LIBS)|g"
INSTALLED = $(addprefix $(to)/,bin/weft lib/libweft.a lib/libweft.so lib/$(SO_NAME) lib/$(SO_FILE) \
  lib/pkgconfig/weft.pc share/man/man1/weft.1 share/bash-completion/completions/weft $(SHARED:tools/%=share/weft/%))

# install -C leaves a file that is the same alone, so that what was compiled against it stays up to date.
copy-files:
	$(call say,COPY,$(to))install -d $(addprefix $(to)/,bin include/weft lib/pkgconfig lib/cmake/weft share/man/man1 share/weft \
	  share/bash-completion/completions)
	@install -C -m644 $(HEADERS) $(to)/include/weft
	@install -C -m644 $(B)/libweft.a $(to)/lib
	@install -C -m755 $(B)/$(SO_FILE) $(to)/lib
	@ln -sf $(SO_FILE) $(to)/lib/$(SO_NAME)
	@ln -sf $(SO_NAME) $(to)/lib/libweft.so
	@install -C -m755 $(B)/weft $(to)/bin
	@install -C -m644 $(SHARED) $(to)/share/weft
	@install -C -m644 $(COMPLETION) $(to)/share/bash-completion/completions/weft
	@$(fill_in) tools/weft.pc.in > $(to)/lib/pkgconfig/weft.pc
	@$(fill_in) tools/weft-config.cmake.in > $(to)/lib/cmake/weft/weft-config.cmake
	@$(fill_in) tools/weft-config-version.cmake.in > $(to)/lib/cmake/weft/weft-config-version.cmake
	@$(fill_in) tools/weft.1 > $(to)/share/man/man1/weft.1

-include $(DEPFILES)
