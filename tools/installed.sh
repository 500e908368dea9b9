#!/bin/sh
# Says what `make install` has put where, and what is missing to run it.
#   tools/installed.sh LUA_VERSION INTERPRETER COMMAND LUA-MODULES C-MODULES
# The interpreter is empty where the files are for another machine.
set -eu
version=$1 lua=$2 command=$3 modules=$4 c_modules=$5

echo
echo "installed for $([ "$version" = jit ] && echo LuaJIT || echo "Lua $version"):"
echo "  modules   $modules"
echo "            $c_modules ($(cd "$c_modules" && echo *.so))"
echo "  command   $command ($(sed -n '1s/^#!//p' "$command"))"
for store in sqlite:libsqlite3-dev postgres:libpq-dev; do
  [ -e "$c_modules/${store%%:*}.so" ] || echo "  not built: koresms.${store%%:*}, for campaigns;" \
    "it needs ${store#*:} (Debian), then make and make install again"
done
if [ -z "$lua" ]; then exit 0; fi
if ! command -v "$lua" >/dev/null; then
  echo "  missing to run it: the interpreter $lua"
  exit 0
fi

# Whoever chose directories of their own knows where to look.
case $(basename "$(dirname "$modules")") in [0-9].[0-9]) ;; *) exit 0 ;; esac
# The command may run on another Lua than the one these modules are for.
number=$("$lua" -e 'print((_VERSION:match("%d.%d")))')
share=$(dirname "$(dirname "$modules")")
lib=$(dirname "$(dirname "$c_modules")")
if [ ! -e "$share/$number/koresms/init.lua" ]; then
  echo "  missing for the command: the modules for $lua; make LUA_VERSION=$number &&" \
    "make LUA_VERSION=$number install"
  exit 0
fi

# needs MODULE ROCK
needs() {
  "$lua" -e "require '$1'" 2>/dev/null || echo "  missing to run it: the Lua module $1; install" \
    "lua-$1 (Debian), or luarocks install $2"
}
needs cjson lua-cjson
needs argparse argparse

if [ ! "$modules" -ef "$share/$number/koresms" ]; then exit 0; fi
found=$("$lua" -e 'for place in package.path:gmatch("[^;]+") do
  local path = place:gsub("?", "koresms")
  local file = io.open(path)
  if file then print(path) break end
end')
if [ ! "$found" -ef "$share/$number/koresms/init.lua" ]; then
  if [ "$found" ]; then
    echo "  $lua finds another koresms first: $found; for this one set in your programs:"
  else
    echo "  $lua does not look there by itself (the command does); set for your programs:"
  fi
  echo "    export LUA_PATH='$share/$number/?.lua;$share/$number/?/init.lua;;'" \
    "LUA_CPATH='$lib/$number/?.so;;'"
fi
