#!/bin/sh
# Measures the store (bench/store.lua) beside send_many without one, against a server that gives the
# documented answer, on SQLite and on a PostgreSQL of its own:
#   make bench-store [ROUNDS=5] [SCALE=1] [RESULTS=1]
# RESULTS=1 writes bench/STORE.md.
# Peers of npm come into a temporary directory, or into the existing one that BENCH_NPM names.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
command -v nginx >/dev/null || { echo "bench: nginx is missing; on Debian: make setup" >&2; exit 1; }

# Later ones need Node 22.
graphile_worker=0.17.3 pg_boss=10.4.2

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

BENCH_NPM=${BENCH_NPM:-$work/npm}
if [ ! -d "$BENCH_NPM" ] && command -v npm >/dev/null; then
  mkdir "$BENCH_NPM"
  (cd "$BENCH_NPM" && echo '{"private": true}' >package.json &&
    npm install --ignore-scripts --no-audit --no-fund --no-package-lock --save-exact \
      "graphile-worker@$graphile_worker" "pg-boss@$pg_boss") >"$work/npm.log" 2>&1 ||
    echo "bench: npm installed nothing: $(head -n 1 "$work/npm.log")" >&2
fi

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
BENCH_WORK=$work BENCH_NPM=$BENCH_NPM BENCH_PLAIN=http://127.0.0.1:$port \
  "${LUA:-lua5.4}" bench/store.lua >"$work/out" || { cat "$work/out"; exit 1; }
cat "$work/out"
if [ "${RESULTS-}" ]; then
  {
    echo "# Results of \`make bench-store\`"
    echo
    echo "Written by \`make bench-store RESULTS=1\`, ${ROUNDS:-5} rounds, medians; do not edit. One run on one"
    echo "machine of $(nproc) cores, on which client, server and database share the processors: compare rows"
    echo "with each other. Commit $(git rev-parse --short HEAD)."
    echo
    echo '```text'
    cat "$work/out"
    echo '```'
  } >bench/STORE.md
fi
