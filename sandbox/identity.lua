--- What stays the same from one start to the next: the client secret and the certificate, in a
-- directory that only its owner may enter.
-- @module koresms.sandbox.identity

local certificate = require "koresms.sandbox.certificate"
local shell = require "koresms.sandbox.shell"

local M = {}

-- No client takes a certificate of a server to be valid for longer.
local DAYS = 825

-- Makes what is missing, each under its name in one step: two starts at once end with the same.
-- A certificate that is about to expire is replaced. $1 directory, $2 the certificate's name.
local KEEP = [[
set -eu
umask 077
mkdir -p "$1"
cd "$1"
chmod 700 .
[ -w . ] || exit 1
work=$(mktemp -d ./new.XXXXXX)
trap 'rm -rf "$work"' EXIT
form='[A-Za-z0-9+/=]{32,}'
if ! grep -Eqx "$form" sandbox.secret; then
  openssl rand -base64 32 >"$work/secret"
  rm -f sandbox.secret
  ln "$work/secret" sandbox.secret || [ -e sandbox.secret ] || cp "$work/secret" sandbox.secret
fi
if ! openssl x509 -checkend 86400 -noout -in "$2/cert.pem" || [ ! -s "$2/key.pem" ]; then
  mkdir "$work/made"
  (cd "$work/made" && MAKE)
  rm -f "$work/made/openssl.cnf"
  [ ! -e "$2" ] || mv "$2" "$work/old"
  [ -e "$2" ] || mv "$work/made" "$2"
fi
exec 1>&3
grep -Ex "$form" sandbox.secret | head -n 1]]

--- Where what stays is kept.
-- @treturn string an absolute path
-- @treturn nil,string why there is none
function M.directory()
  local state = os.getenv("XDG_STATE_HOME")
  if state and state:sub(1, 1) == "/" then return state .. "/koresms" end
  local home = os.getenv("HOME")
  if home and home:sub(1, 1) == "/" then return home .. "/.local/state/koresms" end
  return nil, "there is no home directory (HOME and XDG_STATE_HOME are not set)"
end

--- Reads what is kept, and makes what is missing.
-- @tparam string directory
-- @tparam string listen the address on which the sandbox listens
-- @treturn table client_secret, ca_file, key_file
-- @treturn nil,string
function M.keep(directory, listen)
  local name = "sandbox"
  if listen ~= "127.0.0.1" and listen ~= "::1" then
    name = name .. "-" .. listen:gsub(":", "_")
  end
  local script = KEEP:gsub("MAKE", function() return certificate.script(listen, DAYS) end)
  local ok, secret = shell.run(("exec 3>&1; sh -c %s sh %s %s >/dev/null 2>&1"):format(
    shell.quote(script), shell.quote(directory), shell.quote(name)))
  if not ok or secret == "" then return nil, directory .. " cannot be written" end
  return {client_secret = secret, ca_file = ("%s/%s/cert.pem"):format(directory, name),
    key_file = ("%s/%s/key.pem"):format(directory, name)}
end

return M
