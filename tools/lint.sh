#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: LINT_FLAGS='-std=c++20 …' lint.sh FILE
# Runs clang-tidy on one source with the flags that it is compiled with, and is silent when nothing is wrong.
set -u

log=$(mktemp)
trap 'rm -f "$log"' EXIT
file=$1
checks=
set --
case $file in
  tests/model/*) set -- -idirafter /usr/include/relacy ;;
  tools/*) set -- '-DWEFT_VERSION="0"' ;;
  bpf/loader.cpp) checks=--checks=-clang-analyzer-unix.Malloc ;; # does not understand bpftool's headers
esac
# shellcheck disable=SC2086  # several words
if ! clang-tidy --quiet --warnings-as-errors='*' $checks "$file" -- $LINT_FLAGS "$@" > "$log" 2>&1; then
  cat "$log"
  exit 1
fi
