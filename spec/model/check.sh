#!/bin/sh
# Checks the models with spin, whole: that the protocol holds, and that each guard which carries it
# is missed where it is taken out. MODEL=long allows more misfortunes and more messages.
set -u
cd "$(dirname "$0")" || exit 1
for tool in spin gcc; do
  command -v $tool >/dev/null || { echo "model: $tool is not installed (Debian: apt-get install $tool)" >&2; exit 1; }
done
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

# A small search ends sooner than an optimiser.
OPTIMIZE=-O0
[ "${MODEL-}" != long ] || OPTIMIZE=-O2

passed=0 failed=0

# check FILE holds|breaks NAME OPTION...
check() {
  file=$1 wanted=$2 name=$3
  shift 3
  errors=
  if (cd "$dir" && rm -f pan* && spin -a "$@" "$OLDPWD/$file" >spin.log 2>&1 \
      && gcc -w $OPTIMIZE -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -o pan pan.c 2>gcc.log \
      && timeout 1800 ./pan -m400000 >pan.log 2>&1); then
    errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' "$dir/pan.log")
  fi
  # A search that was cut short has proved nothing.
  if grep -q 'max search depth too small\|out of memory' "$dir/pan.log" 2>/dev/null; then errors=; fi
  states=$(sed -n 's/^ *\([0-9]*\) states, stored$/\1/p' "$dir/pan.log" 2>/dev/null)
  case $errors in
    0) got=holds ;;
    [1-9]*) got=breaks ;;
    *) got="no answer" ;;
  esac
  if [ "$got" = "$wanted" ]; then
    passed=$((passed + 1)) word=ok
  else
    failed=$((failed + 1)) word=FAILED
    cat "$dir"/*.log >&2
  fi
  printf '%-6s  %-6s %s: %s (%s states)\n' "$word" "$got" "${file%.pml}" "$name" "${states:-?}"
}

outbox() {
  wanted=$1 name=$2 off=$3
  check outbox.pml "$wanted" "$name" -DB=${B:-2} -DM=${M:-1} -DOFF="$off"
}

outbox holds "the protocol" 0
outbox holds "... in PostgreSQL's order" 16384
outbox breaks "the mark is not durable" 1
outbox breaks "no look at the attempt" 2
outbox breaks "what the dead left becomes pending" 8
outbox breaks "a repair, under the same number" 48
outbox breaks "a repair, and endings dropped before their commit is confirmed" 1040
outbox breaks "the same number after a lost answer" 32
outbox breaks "the same number after a crash" 64
outbox breaks "a row taken without a look at its state" 128
outbox breaks "no sweep" 256
outbox breaks "cancelled once" 512
# Kept for what the model does not know (a restored database), or for convenience.
outbox holds "no look at the worker" 4
outbox holds "late answers dropped" 4096
outbox holds "resent before the worker is dead" 8192
outbox holds "stored in a row that is pending again" 2048

check quota.pml holds "the quota" -DCONNECT -DCHECK_AT_SEND
check quota.pml holds "... and a network that takes its time, with a larger margin" -DNET=1 -DG=2 -DCHECK_AT_SEND
check quota.pml breaks "sent though it was marked too slowly" -DNO_GUARD
check quota.pml breaks "no look before the first byte" -DCONNECT
check quota.pml breaks "no margin" -DG=0 -DCHECK_AT_SEND
check quota.pml breaks "what a raised limit adds is free at once" -DREADD -DCHECK_AT_SEND
check quota.pml breaks "a process stopped between the look and the byte" -DSTOP -DCHECK_AT_SEND

if [ "${MODEL-}" = long ]; then
  B=2 M=2
  outbox holds "the protocol, two messages" 0
  outbox holds "... in PostgreSQL's order" 16384
  B=3 M=1
  outbox holds "the protocol, three misfortunes" 0
  outbox holds "... in PostgreSQL's order" 16384
fi

echo "model: $passed as expected, $failed not"
[ $failed = 0 ]
