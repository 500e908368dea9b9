#!/bin/sh
# Lint, then all specs on Lua 5.4 and LuaJIT, with warnings as errors. Everything is run,
# whatever fails; the last line of output sums up, each lint counting as one test.
set -u
cd "$(dirname "$0")/.." || exit 1

make=${MAKE:-make}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

passed=0 failed=0 skipped=0

# The number that stands before a word of busted's summary line.
count() {
  sed -n "s/.*\b\([0-9][0-9]*\) $1.*/\1/p" | grep . || echo 0
}

lint() {
  echo "== lint: $1"
  if $make --no-print-directory "lint-$1"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

# A run which breaks off without a summary, or runs nothing, is one failure.
specs() {
  echo "== specs: $1"
  { timeout --foreground --kill-after=10 330 $make --no-print-directory WERROR=1 LUA_VERSION="$1" \
    BUSTED_FLAGS=--output=plainTerminal specs 2>&1; echo "exit status $?"; } | tee "$log"
  status=$(sed -n 's/^exit status \([0-9]*\)$/\1/p' "$log" | tail -n 1)
  summary=$(grep -E '^[0-9]+ success(es)? / [0-9]+ failures? / [0-9]+ errors?' "$log" | tail -n 1)
  good=$(echo "$summary" | count success)
  bad=$(($(echo "$summary" | count failure) + $(echo "$summary" | count error)))
  if [ $((good + bad)) = 0 ] || { [ "$status" != 0 ] && [ "$bad" = 0 ]; }; then
    bad=$((bad + 1))
  fi
  passed=$((passed + good)) failed=$((failed + bad))
  skipped=$((skipped + $(echo "$summary" | count pending)))
}

for name in lua gcc clang cppcheck; do lint $name; done
for version in 5.4 jit; do specs $version; done

echo
if [ $skipped = 0 ]; then
  echo "$passed passed, $failed failed"
else
  echo "$passed passed, $failed failed, $skipped skipped"
fi
[ $failed = 0 ]
