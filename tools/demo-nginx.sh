#!/bin/sh
# Runs examples/nginx against the local sandbox, asks it a few things, and shows the answers.
# What it starts, it stops; nothing leaves this machine.
set -eu
cd "$(dirname "$0")/.."

lua=${LUA:-lua5.4}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Neither the caller's account nor the caller's Lua paths may get in here.
for name in $(env | sed -n 's/^\(KORESMS_[A-Z_]*\|LUA_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done

work=$(mktemp -d)
sandbox= server=
finish() {
  status=$?
  trap '' INT TERM HUP
  if [ $status != 0 ]; then cat "$work/log" "$work/server.log" >&2; fi
  for process in $server $sandbox; do
    kill "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  rm -rf "$work"
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
: >"$work/env" >"$work/log" >"$work/server.log"

# Waits for a command to succeed, while a process lives.
await() {
  what=$1 process=$2
  shift 2
  tries=100
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    if [ $tries = 0 ] || ! kill -0 "$process" 2>/dev/null; then
      echo "demo: $what did not start" >&2
      exit 1
    fi
    sleep 0.1
  done
}

"$lua" bin/koresms sandbox >"$work/env" 2>"$work/log" &
sandbox=$!
await "the sandbox" $sandbox grep -q '^export KORESMS_HOST=' "$work/env"
. "$work/env"

# Inside nginx, trust is a directive and no setting.
ca=$KORESMS_CA_FILE
unset KORESMS_CA_FILE
SMS_API_KEY=$(openssl rand -hex 16)
export SMS_API_KEY
port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))

mkdir "$work/nginx" "$work/nginx/temp"
cp examples/nginx/sms.lua "$work/nginx"
sed -e "s|127.0.0.1:8080|127.0.0.1:$port|" \
  -e "s|/etc/ssl/certs/ca-certificates.crt|$ca|" examples/nginx/nginx.conf >"$work/nginx/nginx.conf"

modules=
for name in ndk_http_module ngx_http_lua_module; do
  for directory in /usr/share/nginx/modules /usr/lib/nginx/modules /usr/lib64/nginx/modules; do
    if [ -e "$directory/$name.so" ]; then
      modules="$modules load_module $directory/$name.so;"
      break
    fi
  done
done
user=
# The directory is private to this user.
if [ "$(id -u)" = 0 ]; then user="user root;"; fi

build=$(cd "${BUILD:-build}" && pwd)
LUA_PATH="$PWD/lua/?.lua;$PWD/lua/?/init.lua;;" LUA_CPATH="$build/jit/?.so;;" \
  nginx -p "$work/nginx" -c nginx.conf -e stderr -g "$modules $user" 2>"$work/server.log" &
server=$!
url=http://127.0.0.1:$port
await nginx $server curl --silent --fail --noproxy '*' "$url/health"

ask() {
  curl --silent --show-error --noproxy '*' --write-out '  <- HTTP %{http_code}\n' "$@"
}

echo "GET /health"
ask "$url/health"
echo "POST /sms, without the key"
ask -d '{"to":"+911234567890"}' "$url/sms"
bearer="Authorization: Bearer $SMS_API_KEY"
echo "POST /sms, with a number that is none"
ask -H "$bearer" -d '{"to":"0123"}' "$url/sms"
echo "POST /sms"
ask -H "$bearer" -d '{"to":"+911234567890","id":"order-17"}' "$url/sms" | tee "$work/answer"
echo "forty at once, of which nginx lets twenty or so through: how many got which status"
curl --silent --noproxy '*' --parallel --parallel-max 40 -o /dev/null -w '%{http_code}\n' \
  -H "$bearer" -d '{"to":"+911234567890"}' "$url/sms?n=[1-40]" 2>/dev/null | sort | uniq -c
echo "what the platform processed:"
curl --silent --show-error --fail --cacert "$ca" "$KORESMS_HOST/_sandbox/state" |
  sed 's/.*"count":\([0-9]*\).*/  \1 messages/'

grep -q 'HTTP 202' "$work/answer"
