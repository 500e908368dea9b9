#!/bin/sh
# Installs what is missing on Debian: tools/setup.sh demo|nginx|test
#
# Prints the packages first, uses sudo only where it is not root, removes nothing,
# starts no service, and does nothing at all where everything is there.
set -eu

# A name after "|" does as well as the one before it, which is what gets installed.
demo="gcc libc6-dev pkgconf|pkg-config liblua5.4-dev
  libcurl4-openssl-dev|libcurl4-gnutls-dev libssl-dev
  lua5.4 lua-cjson lua-argparse lua-luaossl
  curl openssl nginx libnginx-mod-http-lua"
nginx="$demo libluajit2-5.1-dev"
test="$nginx luajit2
  lua5.1 liblua5.1-0-dev lua5.2 liblua5.2-dev lua5.3 liblua5.3-dev
  lua-busted lua-check lua-posix luarocks libfaketime procps binutils
  clang clang-format libclang-rt-dev
  cppcheck valgrind locales lua-ldoc
  python3 python3-jwt python3-cryptography chromium chromium-driver
  libsqlite3-dev sqlite3 libpq-dev postgresql pgbouncer python3-psycopg2 spin"

case ${1-} in
  demo) wanted=$demo ;;
  nginx) wanted=$nginx ;;
  test) wanted=$test ;;
  *) echo "usage: tools/setup.sh demo|nginx|test" >&2; exit 2 ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "set-up: no apt-get here, so nothing is installed. On Debian it would need:" $wanted >&2
  exit 0
fi

installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
for entry in $wanted; do
  found=
  for name in $(echo "$entry" | tr '|' ' '); do
    if installed "$name"; then found=1; fi
  done
  if [ -z "$found" ]; then missing="$missing ${entry%%|*}"; fi
done
if [ -z "$missing" ]; then exit 0; fi

echo "set-up: these Debian packages are missing and will be installed:"
echo " $missing" | fold -s -w 78

# Debian's nginx starts itself on port 80 when it is installed, and its PostgreSQL makes a
# cluster and starts that; see tools/no-start. Whoever has them already keeps them as they are.
here=$(cd "$(dirname "$0")" && pwd)
options="-y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=120"
path=
if ! installed nginx || echo "$missing" | grep -qw postgresql; then
  path="DPkg::Path=$here/no-start:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
fi

by_hand() {
  echo "set-up: $1 As root, run:" >&2
  echo "  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install $options" \
    ${path:+"-o '$path'"} $missing >&2
  exit 1
}

if [ "$(id -u)" = 0 ]; then
  root=
elif command -v sudo >/dev/null; then
  root=sudo
  echo "set-up: sudo is used for apt-get only"
else
  by_hand "this needs root, and there is no sudo."
fi

# apt-get ends with 100 where a list is out of reach, which need not stop us: it keeps the
# others. Anything else comes from sudo.
status=0
$root apt-get update -qq -o DPkg::Lock::Timeout=120 || status=$?
case $status in
  0) ;;
  100) echo "set-up: going on with the package lists that are there" >&2 ;;
  *) by_hand "sudo did not run apt-get." ;;
esac

if ! $root env DEBIAN_FRONTEND=noninteractive apt-get install -q $options \
  ${path:+-o "$path"} $missing; then
  cat >&2 <<'END'
set-up: apt-get failed; its reason stands above. "Packages need to be removed" means
that one of them conflicts with a package of yours, which is left alone. Known case:
Debian's "luajit" excludes the "luajit2" that the specs run on.
END
  exit 1
fi
