#!/bin/sh
# Lint, all specs on Lua 5.4 and LuaJIT with warnings as errors, some on 5.1 to 5.3 and for old
# libraries, a fuzzer, and some specs under sanitizers and valgrind. Everything is run, whatever
# fails; the last line of output sums up, each lint counting as one test.
set -u
cd "$(dirname "$0")/.." || exit 1

make=${MAKE:-make}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

passed=0 failed=0 skipped=0

# The sum of the numbers that stand before a word in busted's summary lines.
count() {
  sed -n "s/.*\b\([0-9][0-9]*\) $1.*/\1/p" | awk '{ n += $1 } END { print n + 0 }'
}

# check TITLE TARGET VARIABLE...: a target that passes or fails as a whole; it counts as one test.
check() {
  echo "== $1"
  shift
  if $make --no-print-directory "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

# specs TITLE TARGET VARIABLE...: a target that runs busted, once or several times. A run which
# breaks off without a summary, or runs nothing, is one failure.
specs() {
  echo "== specs: $1"
  shift
  { timeout --foreground --kill-after=10 2400 $make --no-print-directory "$@" WERROR=1 \
    BUSTED_FLAGS=--output=plainTerminal 2>&1; echo "exit status $?"; } | tee "$log"
  status=$(sed -n 's/^exit status \([0-9]*\)$/\1/p' "$log" | tail -n 1)
  summary=$(grep -E '^[0-9]+ success(es)? / [0-9]+ failures? / [0-9]+ errors?' "$log")
  good=$(echo "$summary" | count success)
  bad=$(($(echo "$summary" | count failure) + $(echo "$summary" | count error)))
  if [ $((good + bad)) = 0 ] || { [ "$status" != 0 ] && [ "$bad" = 0 ]; }; then
    bad=$((bad + 1))
  fi
  passed=$((passed + good)) failed=$((failed + bad))
  skipped=$((skipped + $(echo "$summary" | count pending)))
}

# named PATTERN: the specs whose names begin like this, on one line.
named() { find spec -name '*_spec.lua' | sort | grep -E "/($1)" | tr '\n' ' '; }

# What depends on the Lua that runs it; the sweeps of broken-off sends follow, on 5.1.
portable="client_|config|csv|e164|failure|fork|jwt|locale|mask|memory|meta|pacer_spec|proxy_spec"
portable=$(named "$portable|reader|secrets_spec|stream|text|verdict")
sweeps=$(named 'abandoned|broken_off|interrupt')

for name in lua gcc clang cppcheck format; do check "lint: $name" lint-$name; done
for version in 5.4 jit; do
  specs "$version" specs LUA_VERSION=$version
done
specs "5.1, what depends on it" specs LUA_VERSION=5.1 SPEC="$portable$sweeps"
for version in 5.2 5.3; do
  specs "$version, what depends on it" specs LUA_VERSION=$version SPEC="$portable"
done
specs "5.4, old libraries" specs-old
check "models of the store" model
check "fuzz, 20 s" fuzz SECONDS=20 FUZZ_FLAGS=-verbosity=0
specs "memory" sanitize FAULTS=short

echo
if [ $skipped = 0 ]; then
  echo "$passed passed, $failed failed"
else
  echo "$passed passed, $failed failed, $skipped skipped"
fi
[ $failed = 0 ]
