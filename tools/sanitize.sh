#!/bin/sh
# Runs specs of the C code under AddressSanitizer and UndefinedBehaviorSanitizer (leaks are
# errors), then under valgrind. FAULTS=short takes a subset that fits into a few minutes.
set -eu
cd "$(dirname "$0")/.."

build=${BUILD:-build}
make=${MAKE:-make}
busted=$(command -v busted)

specs="spec/e164_spec.lua spec/jwt_spec.lua spec/reader_spec.lua spec/config_spec.lua
  spec/client_spec.lua spec/stream_spec.lua"
if [ "${FAULTS:-long}" = long ]; then
  specs="$specs spec/faults_verdicts_spec.lua spec/faults_random_spec.lua"
fi

flags="-fsanitize=address,undefined"
$make --no-print-directory BUILD="$build/asan" LUA_VERSION=5.4 \
  CFLAGS="-O1 -g $flags -fno-sanitize-recover=undefined -fno-omit-frame-pointer" \
  LDFLAGS="$flags -Wl,-z,nodelete" all

# The interpreter is not built with the sanitizers, so their runtimes come first.
preload=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)
echo "== sanitizers"
# shellcheck disable=SC2086
FAULTS=short LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=1 KSMS_BUILD="$build/asan" \
  lua5.4 "$busted" $specs

echo "== valgrind"
$make --no-print-directory BUILD="$build/valgrind" LUA_VERSION=5.4 CFLAGS="-O1 -g" all
# What runs against the clock is too slow here.
KSMS_BUILD="$build/valgrind" valgrind --quiet --error-exitcode=9 --leak-check=full \
  --errors-for-leak-kinds=definite --show-leak-kinds=definite --trace-children=no \
  lua5.4 "$busted" spec/e164_spec.lua spec/jwt_spec.lua spec/reader_spec.lua \
  spec/client_spec.lua
