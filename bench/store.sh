#!/bin/sh
# Measures the store (bench/store.lua) beside send_many without one, against a server that gives the
# documented answer, on SQLite and on a PostgreSQL of its own:
#   make bench-store [ROUNDS=5] [SCALE=1]
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
command -v nginx >/dev/null || { echo "bench: nginx is missing; on Debian: make setup" >&2; exit 1; }

work=$(mktemp -d)
server=
finish() {
  status=$?
  trap '' INT TERM HUP
  if [ "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# Neither the caller's account, nor a store, nor Lua paths may get in here.
for name in $(env | sed -n 's/^\(KORESMS_[A-Z_]*\|LUA_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done

port=
for candidate in 19871 19873 19877 19883 19889; do
  if ! grep -qi ":$(printf %04X $candidate) " /proc/net/tcp 2>/dev/null; then port=$candidate; break; fi
done
mkdir "$work/temp"
sed -e "s/@PLAIN@/$port/" -e '/@TLS@/d' -e '/ssl_/d' bench/nginx.conf >"$work/nginx.conf"
nginx -p "$work" -c nginx.conf &
server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
  if curl --silent --max-time 1 "http://127.0.0.1:$port/" >/dev/null; then break; fi
  sleep 0.2
done
BENCH_WORK=$work BENCH_PLAIN=http://127.0.0.1:$port "${LUA:-lua5.4}" bench/store.lua
