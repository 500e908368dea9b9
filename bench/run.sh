#!/bin/sh
# Prepares the measurements (bench/run.lua), and puts away what it started:
#   make bench [ROWS=singles,bulk,tls,rs256,peers,memory] [ROUNDS=5] [SCALE=1]
#              [RESULTS=1] [BENCH_INSTALL=1]
# RESULTS=1 writes bench/RESULTS.md. SCALE=0.1 sends a tenth of the messages. Peers of
# Debian are installed only with BENCH_INSTALL=1; those of npm come into a temporary
# directory, or into the existing one that BENCH_NPM names. What is missing says so.
set -eu
cd "$(dirname "$0")/.."

undici=7.30.2 twilio=6.2.0

lua=${LUA:-lua5.4}
BENCH_BUILD=${BUILD:-build}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# Debian's Python packages are seen by Debian's Python only.
BENCH_PYTHON=/usr/bin/python3
if [ ! -x $BENCH_PYTHON ]; then BENCH_PYTHON=python3; fi

if [ "${BENCH_INSTALL-}" ]; then
  root=
  if [ "$(id -u)" != 0 ]; then root=sudo; fi
  # A Node of another origin does not go with Debian's.
  node=
  command -v npm >/dev/null || node="nodejs npm"
  $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    --no-remove wrk lua-socket lua-http lua5.1 python3-requests python3-aiohttp $node
fi

if ! command -v nginx >/dev/null; then
  echo "bench: nginx is missing; on Debian: make setup" >&2
  exit 1
fi

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

BENCH_NPM=${BENCH_NPM:-$work/npm}
case ,${ROWS:-peers}, in
  *,peers,*)
    if [ ! -d "$BENCH_NPM" ] && command -v npm >/dev/null; then
      mkdir "$BENCH_NPM"
      (cd "$BENCH_NPM" && echo '{"private": true}' >package.json &&
        npm install --ignore-scripts --no-audit --no-fund --save-exact \
          "undici@$undici" "twilio@$twilio") >"$work/npm.log" 2>&1 ||
        echo "bench: npm installed nothing: $(head -n 1 "$work/npm.log")" >&2
    fi ;;
esac

# Neither the caller's account, nor Lua paths, nor a proxy may get in here.
for name in $(env | sed -n 's/^\(KORESMS_[A-Z_]*\|LUA_[A-Z0-9_]*\)=.*/\1/p') \
  http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY; do unset "$name"; done

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
  -subj '/CN=koresms bench' -addext 'subjectAltName = IP:127.0.0.1' \
  -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$work/rsa.pem" 2>/dev/null

# Ports below those that the system gives to connections; another try where one is taken.
tries=0
until [ "$server" ]; do
  tries=$((tries + 1))
  plain=$((20000 + ($$ * 7 + tries * 61) % 10000))
  sed -e "s/@PLAIN@/$plain/" -e "s/@TLS@/$((plain + 1))/" \
    bench/nginx.conf >"$work/nginx.conf"
  nginx -p "$work/" -c nginx.conf -e error.log 2>"$work/stderr" &
  server=$!
  waits=0
  # Written once nginx has its ports.
  until [ -e "$work/nginx.pid" ]; do
    sleep 0.1
    waits=$((waits + 1))
    if ! kill -0 "$server" 2>/dev/null || [ $waits -gt 100 ]; then
      kill "$server" 2>/dev/null || true
      wait "$server" 2>/dev/null || true
      server=
      break
    fi
  done
  if [ -z "$server" ] && [ $tries = 10 ]; then
    echo "bench: nginx did not start: $(tail -n 1 "$work/stderr")" >&2
    exit 1
  fi
done

export BENCH_BUILD BENCH_NPM BENCH_PYTHON PYTHONDONTWRITEBYTECODE=1 LUA="$lua" \
  BENCH_WORK="$work" BENCH_PLAIN="http://127.0.0.1:$plain" \
  BENCH_TLS="https://127.0.0.1:$((plain + 1))"
"$lua" bench/run.lua
