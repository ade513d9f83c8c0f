#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: deps.sh PACKAGE[?]...
# Makes sure that what the named Debian packages bring is there, whoever brought it. A package is looked for by what is
# used of it (a header, a library, a program), so that a copy from elsewhere counts and any distribution can be asked.
# What is missing is installed where apt is; elsewhere it is listed, and the status is 1. A package with a question mark
# is one that the build does without where it cannot be installed. With nothing missing this is a handful of stat calls,
# since every target begins with it.
set -u

compiler=${CXX:-g++}
min_gcc=12

find_below() {
  file=$1
  shift
  for dir in "$@"; do
    [ -e "$dir/$file" ] && return 0
  done
  return 1
}

header() {
  find_below "$1" /usr/include /usr/include/*-linux-gnu /usr/local/include ||
    echo "#include <$1>" | $compiler -E -x c++ - > /dev/null 2>&1
}

library() {
  find_below "$1" /usr/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/local/lib
}

program() {
  command -v "$1" > /dev/null 2>&1
}

python_module() {
  find_below "$1" /usr/lib/python3/dist-packages /usr/lib/python3*/site-packages ||
    python3 -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$1') is None)" 2> /dev/null
}

present() {
  case $1 in
    g++) program "${compiler%% *}" ;;
    libboost-context-dev) header boost/context/detail/fcontext.hpp && library libboost_context.a ;;
    libboost-fiber-dev) header boost/fiber/all.hpp && library libboost_fiber.so ;;
    libnuma-dev) header numa.h && library libnuma.so ;;
    libssl-dev) header openssl/evp.h && library libcrypto.so ;;
    libunwind-dev) header libunwind.h && library libunwind.so ;;
    libdw-dev) header elfutils/libdwfl.h && library libdw.so ;;
    libcli11-dev) header CLI/CLI.hpp ;;
    libfmt-dev) header fmt/format.h && library libfmt.so ;;
    nlohmann-json3-dev) header nlohmann/json.hpp ;;
    libgtest-dev) header gtest/gtest.h && library libgtest.a ;;
    libgmock-dev) header gmock/gmock.h && library libgmock.a ;;
    libbenchmark-dev) header benchmark/benchmark.h && library libbenchmark.so ;;
    libhttp-parser-dev) header http_parser.h && library libhttp_parser.so ;;
    relacy-dev) header relacy/relacy.hpp ;;
    bpftool) program bpftool || find_below bpftool /usr/sbin /usr/local/sbin ;;
    libbpf-dev) header bpf/bpf_core_read.h && library libbpf.so ;;
    libcurl4-openssl-dev) header curl/curl.h && library libcurl.so ;;
    liburing-dev) header liburing.h && library liburing.so ;;
    libgd-dev) header gd.h && library libgd.so ;;
    libncurses-dev) header cursesw.h && library libncurses++w.a ;;
    valgrind) header valgrind/valgrind.h ;;
    qemu-system-x86) program qemu-system-x86_64 ;;
    busybox-static) program busybox ;;
    binutils) program objcopy ;;
    golang-go) program "${GO:-go}" ;;
    prometheus) program promtool ;;
    python3-matplotlib) python_module matplotlib ;;
    *) program "$1" ;;
  esac
}

missing=
missing_optional=
for package in "$@"; do
  present "${package%\?}" && continue
  case $package in
    *\?) missing_optional="$missing_optional ${package%\?}" ;;
    *) missing="$missing $package" ;;
  esac
done

# Another compiler than the default one is the user's to install, under a name that its caller has chosen.
case $missing in
  *" g++"*)
    if [ "$compiler" != g++ ]; then
      echo "weft: the compiler '$compiler' is not there" >&2
      exit 1
    fi ;;
esac

if [ -n "$missing$missing_optional" ]; then
  as_root=
  if ! program apt-get; then
    as_root=none
  elif [ "$(id -u)" != 0 ]; then
    if sudo -n true 2> /dev/null; then
      as_root='sudo -n'
    elif program sudo && [ -t 0 ]; then
      as_root=sudo
    else
      as_root=none
    fi
  fi
  if [ "$as_root" = none ]; then
    missing_optional=
    if [ -n "$missing" ]; then
      echo "weft: these are missing (Debian's names); install them and try again:$missing" >&2
      exit 1
    fi
  fi
fi

install_packages() {
  echo "Installing:$*"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300"
  # shellcheck disable=SC2086  # both hold several words
  if ! { $apt update && $apt install -y --no-install-recommends $*; } > "$log" 2>&1; then
    cat "$log" >&2
    echo "weft: could not install:$*" >&2
    return 1
  fi
}

[ -z "$missing" ] || install_packages "$missing" || exit 1
[ -z "$missing_optional" ] || install_packages "$missing_optional"

if [ "$compiler" = g++ ] && [ "$(g++ -dumpversion | cut -d. -f1)" -lt $min_gcc ]; then
  echo "weft: needs g++ $min_gcc or newer; name one with make CXX=g++-$min_gcc" >&2
  exit 1
fi
