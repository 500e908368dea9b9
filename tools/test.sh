#!/bin/sh
# Lint, all specs on Lua 5.4 and LuaJIT with warnings as errors, some on 5.1 to 5.3 and for old
# libraries, a fuzzer, and some specs under sanitizers and valgrind. Three lanes run side by side,
# since most specs wait more than they work; a part's output is printed once it has ended.
# Everything is run, whatever fails; the last line of output sums up, each lint counting as one test.
set -u
cd "$(dirname "$0")/.." || exit 1

make=${MAKE:-make}
work=$(mktemp -d) || exit 1

# Ends what is still running: `timeout` passes it on to all that it has started.
stop() {
  for file in "$work"/*.pid; do
    [ -e "$file" ] && kill "$(cat "$file")" 2>/dev/null
  done
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

# named PATTERN: the specs whose names begin like this, on one line.
named() { find spec -name '*_spec.lua' | sort | grep -E "/($1)" | tr '\n' ' '; }

# What depends on the Lua that runs it; the sweeps of broken-off sends follow, on 5.1.
portable="client_|config|csv|e164|failure|fork|jwt|locale|mask|memory|meta|pacer_spec|proxy_spec"
portable=$(named "$portable|reader|secrets_spec|stats|stream|text|verdict")
sweeps=$(named 'abandoned|broken_off|interrupt')

# Each part: a name, minutes on two cores of 2026, what it is, whether it runs busted. The lanes
# take as long as each other.
lane_a="lint-lua lint-cppcheck lint-format specs-5.4"
lane_b="specs-jit-1 specs-5.1 fuzz model memory"
lane_c="lint-gcc lint-clang specs-jit-2 specs-old specs-5.2 specs-5.3"

title() {
  case $1 in
    lint-*) echo "lint: ${1#lint-}" ;;
    specs-old) echo "specs: 5.4, as if with old libraries (1 minute)" ;;
    specs-5.4) echo "specs: all, on 5.4 (12 minutes)" ;;
    specs-jit-1) echo "specs: on LuaJIT, a to o, with nginx (7 minutes)" ;;
    specs-jit-2) echo "specs: on LuaJIT, p to z, with the stores (7 minutes)" ;;
    specs-5.1) echo "specs: what depends on the Lua that runs it, and errors thrown, on 5.1 (3 minutes)" ;;
    specs-*) echo "specs: what depends on the Lua that runs it, on ${1#specs-} (2 minutes)" ;;
    fuzz) echo "fuzz: the reader of replies (20 seconds)" ;;
    model) echo "models of the store (20 seconds)" ;;
    memory) echo "specs: sanitizers and valgrind (1 minute)" ;;
  esac
}

# run PART: its command.
run() {
  case $1 in
    specs-old) set -- specs-old WERROR=1 BUSTED_FLAGS=--output=plainTerminal ;;
    specs-5.4) set -- specs LUA_VERSION=5.4 ;;
    specs-jit-1) set -- specs LUA_VERSION=jit SPEC="$(named '[a-o]')" ;;
    specs-jit-2) set -- specs LUA_VERSION=jit SPEC="$(named '[p-z]')" ;;
    specs-5.1) set -- specs LUA_VERSION=5.1 SPEC="$portable$sweeps" ;;
    specs-*) set -- specs LUA_VERSION="${1#specs-}" SPEC="$portable" ;;
    fuzz) set -- fuzz SECONDS=20 FUZZ_FLAGS=-verbosity=0 ;;
    memory) set -- sanitize FAULTS=short ;;
  esac
  case $1 in specs | sanitize) set -- "$@" WERROR=1 BUSTED_FLAGS=--output=plainTerminal ;; esac
  exec timeout --kill-after=10 2400 $make --no-print-directory "$@"
}

# lane PART...: one after the other, output and status into files.
lane() {
  for part in "$@"; do
    (run "$part") >"$work/$part.log" 2>&1 </dev/null &
    echo $! >"$work/$part.pid"
    wait $!
    echo $? >"$work/$part.status"
    rm -f "$work/$part.pid"
  done
}

passed=0 failed=0 skipped=0

# The sum of the numbers that stand before a word in busted's summary lines.
count() {
  sed -n "s/.*\b\([0-9][0-9]*\) $1.*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

# A part that passes or fails as a whole counts as one test. One that runs busted counts its tests;
# where it breaks off without a summary, or runs nothing, that is one failure.
add_up() {
  status=$(cat "$work/$1.status")
  case $1 in
    specs-* | memory)
      summary=$(grep -E '^[0-9]+ success(es)? / [0-9]+ failures? / [0-9]+ errors?' "$work/$1.log")
      good=$(echo "$summary" | count success)
      bad=$(($(echo "$summary" | count failure) + $(echo "$summary" | count error)))
      if [ $((good + bad)) = 0 ] || { [ "$status" != 0 ] && [ "$bad" = 0 ]; }; then
        bad=$((bad + 1))
      fi
      skipped=$((skipped + $(echo "$summary" | count pending)))
      ;;
    *)
      good=1 bad=0
      if [ "$status" != 0 ]; then good=0 bad=1; fi
      ;;
  esac
  passed=$((passed + good)) failed=$((failed + bad))
}

echo "This takes about 13 minutes on two cores, in three lanes:"
for part in $lane_a; do echo "  1  $(title "$part")"; done
for part in $lane_b; do echo "  2  $(title "$part")"; done
for part in $lane_c; do echo "  3  $(title "$part")"; done

# Two lanes need what is built for LuaJIT.
$make --no-print-directory -s LUA_VERSION=jit WERROR=1 all || exit 1

# shellcheck disable=SC2086
lane $lane_a &
# shellcheck disable=SC2086
lane $lane_b &
# shellcheck disable=SC2086
lane $lane_c &

for part in $lane_a $lane_b $lane_c; do
  while [ ! -e "$work/$part.status" ]; do sleep 1; done
  echo "== $(title "$part")"
  cat "$work/$part.log"
  add_up "$part"
  echo "   exit status $status"
done
wait

echo
if [ $skipped = 0 ]; then
  echo "$passed passed, $failed failed"
else
  echo "$passed passed, $failed failed, $skipped skipped"
fi
[ $failed = 0 ]
