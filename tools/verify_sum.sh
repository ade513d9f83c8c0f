#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# usage: verify_sum.sh WEFT PATH...
# Hashes every file below the paths with `weft sum` and with sha256sum, and tells whether the two lists are the same
# byte for byte. The statistics of `weft sum` go to the terminal. The status is 0 only if the lists agree.
set -u

weft=$1
shift
if [ -z "$(find -H "$@" -type f -print -quit 2> /dev/null)" ]; then
  echo "verify_sum.sh: there is no file below $*" >&2
  exit 1
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

"$weft" sum --stats "$@" > "$dir/weft"
weft_status=$?
find -H "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum > "$dir/sha256sum"

if ! cmp "$dir/weft" "$dir/sha256sum"; then
  diff "$dir/weft" "$dir/sha256sum" | head -n 10
  echo "weft sum and sha256sum DISAGREE on $*" >&2
  exit 1
fi
echo "weft sum and sha256sum agree, byte for byte, on all $(wc -l < "$dir/weft") files below $*"
if [ $weft_status -ne 0 ]; then
  echo "weft sum ended with status $weft_status: some files could not be read" >&2
  exit 1
fi
