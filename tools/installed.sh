#!/bin/sh
# Says what `make install` has put where, and what is missing to run it.
#   tools/installed.sh LUA_VERSION INTERPRETER COMMAND LUA-MODULES C-MODULES
# The interpreter is empty where the files are for another machine.
set -eu
lua=$2

echo
echo "installed for Lua $1:"
echo "  command   $3 ($(sed -n '1s/^#!//p' "$3"))"
echo "  modules   $4"
echo "            $5 ($(cd "$5" && echo *.so))"
[ -e "$5/sqlite.so" ] || echo "  not built: koresms.sqlite; it needs libsqlite3-dev (Debian)"
[ -e "$5/postgres.so" ] || echo "  not built: koresms.postgres; it needs libpq-dev (Debian)"
if [ -z "$lua" ]; then exit 0; fi
if ! command -v "$lua" >/dev/null; then
  echo "  missing to run it: the interpreter $lua"
  exit 0
fi

# needs MODULE PACKAGE
needs() {
  "$lua" -e "require '$1'" 2>/dev/null || echo "  missing to run it: the Lua module $1; install $2"
}
needs cjson "lua-cjson (Debian), or luarocks install lua-cjson"
needs argparse "lua-argparse (Debian), or luarocks install argparse"
"$lua" -e "require 'koresms'" 2>/dev/null || {
  lua_dir=$(dirname "$4") c_dir=$(dirname "$5")
  echo "  $lua does not look there by itself (the command does); set for your programs:"
  echo "    export LUA_PATH='$lua_dir/?.lua;$lua_dir/?/init.lua;;' LUA_CPATH='$c_dir/?.so;;'"
}
