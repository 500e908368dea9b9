#!/bin/sh
# Sends one message through the local sandbox with the numbers of the platform's own
# documentation, and shows the result and what the sandbox processed. What it starts, it
# stops; nothing leaves this machine.
set -eu
cd "$(dirname "$0")/.."

lua=${LUA:-lua5.4}

# Neither the caller's account nor the caller's Lua paths may get in here.
for name in $(env | sed -n 's/^\(KORESMS_[A-Z_]*\|LUA_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done

work=$(mktemp -d)
sandbox=
finish() {
  status=$?
  if [ $status != 0 ]; then cat "$work/log" >&2; fi
  if [ -n "$sandbox" ]; then
    kill "$sandbox" 2>/dev/null || true
    wait "$sandbox" 2>/dev/null || true
  fi
  rm -rf "$work"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
: >"$work/env" >"$work/log"

"$lua" bin/koresms sandbox >"$work/env" 2>"$work/log" &
sandbox=$!

tries=100
until grep -q '^export KORESMS_HOST=' "$work/env"; do
  tries=$((tries - 1))
  if [ $tries = 0 ] || ! kill -0 "$sandbox" 2>/dev/null; then
    echo "demo: the sandbox did not start" >&2
    exit 1
  fi
  sleep 0.1
done
. "$work/env"

echo "sandbox:   $KORESMS_HOST"
echo "command:   bin/koresms send --from +19876543210 --to +911234567890 --json"
sent=0
"$lua" bin/koresms send --from +19876543210 --to +911234567890 --json >"$work/result" || sent=$?
echo "result:    $(cat "$work/result")"
echo "processed: $(curl --silent --show-error --fail ${KORESMS_CA_FILE:+--cacert "$KORESMS_CA_FILE"} \
  "$KORESMS_HOST/_sandbox/messages")"
if [ $sent = 0 ]; then echo "next:      README.md: a lost answer, your account, your own program"; fi
exit $sent
