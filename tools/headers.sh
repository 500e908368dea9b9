#!/bin/sh
# Looks whether the compiler finds what is needed, and names what is missing, one line each.
#   tools/headers.sh LUA COMPILER-CALL...        LUA: 5.1 to 5.4 or jit
lua=$1
shift

case $lua in
  jit) lua_names="libluajit2-5.1-dev (Debian 12), luajit-devel (Fedora), luajit-dev (Alpine), luajit (Homebrew)" ;;
  5.1) lua_names="liblua5.1-0-dev (Debian, Ubuntu), compat-lua-devel (Fedora), lua5.1-dev (Alpine), lua@5.1 (Homebrew)" ;;
  *) lua_names="liblua$lua-dev (Debian, Ubuntu), lua-devel (Fedora), lua$lua-dev (Alpine), lua (Homebrew)" ;;
esac

missing=0
say() {
  missing=1
  echo "koresms: $1 is missing; install $2" >&2
}

if ! command -v "$1" >/dev/null; then
  say "the C compiler '$1'" "gcc and libc6-dev (Debian, Ubuntu), gcc (Fedora), build-base (Alpine), the command line tools of Xcode (macOS)"
  exit 1
fi

# Who gives every directory by hand needs no pkg-config.
PKG_CONFIG=${PKG_CONFIG:-pkg-config}
if ! command -v "${PKG_CONFIG%% *}" >/dev/null; then
  without=" (or '$PKG_CONFIG', which finds it and is not here: pkgconf)"
else
  without=
fi

# look HEADER WHAT PACKAGES
look() {
  echo "#include <$1>" | $compile -w -fsyntax-only -x c - 2>/dev/null || say "$2$without" "$3"
}

compile="$*"
look stdio.h "the C library's header" "libc6-dev (Debian, Ubuntu), glibc-devel (Fedora), musl-dev (Alpine)"
look lua.h "the header of Lua ($lua)" "$lua_names"
look curl/curl.h "the header of libcurl" \
  "libcurl4-openssl-dev (Debian, Ubuntu), libcurl-devel (Fedora), curl-dev (Alpine), curl (Homebrew)"
look openssl/evp.h "the header of OpenSSL" \
  "libssl-dev (Debian, Ubuntu), openssl-devel (Fedora), openssl-dev (Alpine), openssl (Homebrew)"
exit $missing
