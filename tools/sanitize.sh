#!/bin/sh
# Runs the specs of the C code and the whole fault suite under AddressSanitizer and
# UndefinedBehaviorSanitizer (leaks are errors), then under valgrind, on Lua 5.4 and LuaJIT.
# FAULTS=short takes what fits into a minute; FAULTS=long plays each place of every sweep,
# which under valgrind takes hours.
set -u
cd "$(dirname "$0")/.." || exit 1

build=${BUILD:-build}
make="${MAKE:-make} --no-print-directory -s"
busted=$(command -v busted)

core="e164 jwt reader proxy process"
client="config client client_kept client_misuse client_throttled stream stream_ends fork secrets"
client="$client secrets_command"
stores="store_sqlite store_postgres store_turn"
faults="faults_verdicts faults_random faults_retry faults_world"

flags="-fsanitize=address,undefined"
sanitized="-O1 -g $flags -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
# The interpreter is not built with the sanitizers, so their runtimes come first.
preload=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)

status=0
# run TITLE COMMAND...: everything is run, whatever fails.
run() {
  echo "== $1"
  shift
  "$@" || status=1
}

# files NAME...
files() { for name in "$@"; do echo "spec/${name}_spec.lua"; done; }

# compile DIRECTORY LUA_VERSION VARIABLE...
compile() {
  directory=$1 version=$2
  shift 2
  $make BUILD="$build/$directory" LUA_VERSION="$version" "$@" all || exit 1
}

interpreter() { if [ "$1" = jit ]; then echo luajit; else echo "lua$1"; fi; }

# sanitize DIRECTORY LUA_VERSION NAME...: patience is for what these make slow.
sanitize() {
  directory=$1 lua=$(interpreter "$2")
  shift 2
  # shellcheck disable=SC2046,SC2086
  FAULTS_PATIENCE=3 LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=1 \
    KSMS_BUILD="$build/$directory" "$lua" "$busted" ${BUSTED_FLAGS-} $(files "$@")
}

# under_valgrind LUA_VERSION NAME...: programs that these start run without it.
under_valgrind() {
  lua=$(interpreter "$1")
  shift
  # shellcheck disable=SC2046,SC2086
  FAULTS_PATIENCE=6 KSMS_BUILD="$build/valgrind" valgrind --quiet --error-exitcode=9 \
    --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite \
    --keep-debuginfo=yes --trace-children=no "$lua" "$busted" ${BUSTED_FLAGS-} $(files "$@")
}

for version in 5.4 jit; do
  compile asan "$version" CFLAGS="$sanitized" LDFLAGS="$flags -Wl,-z,nodelete"
  compile valgrind "$version" CFLAGS="-O1 -g"
done

if [ "${FAULTS-}" = short ]; then
  # The parts are also those of the random sequences: a hundred, and twenty.
  export FAULTS_COUNT=1200
  FAULTS_PART=1/12 run "sanitizers, Lua 5.4" \
    sanitize asan 5.4 $core $stores faults_verdicts faults_random
  export FAULTS_COUNT=960
  FAULTS_PART=5/48 run "valgrind, LuaJIT" under_valgrind jit e164 faults_verdicts faults_random
  exit $status
fi

for version in 5.4 jit; do
  for part in "$core" "$client" "$stores" "$faults"; do
    export FAULTS_COUNT=2000
    # shellcheck disable=SC2086
    run "sanitizers, $version: $part" sanitize asan "$version" $part
    # A forked child leaves its parent's connections alone for good, which is a leak to valgrind.
    part=$(echo "$part" | sed 's/ fork / /')
    export FAULTS_COUNT=500
    # shellcheck disable=SC2086
    run "valgrind, $version: $part" under_valgrind "$version" $part
  done
done
exit $status
