-- Every block of the README and the pages in docs/ is run against the sandbox, but for those that
-- say why not. Each runs in a directory of its own.

local paths = require "spec.support.paths"

local command = require "spec.support.command"
local pages = require "spec.support.pages"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"

-- A whole configuration: it is started, and takes a message. Trust and address are the sandbox's.
local NGINX = [[
ca=$KORESMS_CA_FILE
unset KORESMS_CA_FILE
port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
sed -e "s|127.0.0.1:8080|127.0.0.1:$port|" -e "s|/etc/ssl/certs/ca-certificates.crt|$ca|" \
  "$1" >nginx.conf
user=
if [ "$(id -u)" = 0 ]; then user="user root;"; fi
export SMS_API_KEY=0123456789abcdef
mkdir logs
nginx -p "$PWD" -c "$PWD/nginx.conf" -e stderr -g "daemon off; $user" &
server=$!
trap 'kill $server; wait $server' EXIT
status=
for try in 1 2 3 4 5 6 7 8 9 10; do
  status=$(curl -s --noproxy '*' -o answer -w '%{http_code}' --data-urlencode 'to=+911234567890' \
    -H "Authorization: Bearer $SMS_API_KEY" "http://127.0.0.1:$port/sms") && break
  sleep 0.1
done
echo "HTTP $status $(cat answer)"
[ "$status" = 202 ]
]]

-- What runs a block of a language.
local RUNNERS = { sh = "sh -eu", lua = command.interpreter, python = "python3",
  nginx = "sh -eu ../nginx.sh" }

-- What is for one Lua alone.
local function applies(block)
  return block.language ~= "nginx" or paths.version == "jit"
end

-- Whether a block leaves a message in the sandbox whose environment it was given.
local function sends(text)
  for _, own in ipairs { "sandbox --", "sandbox.start", "state -X DELETE" } do
    if text:find(own, 1, true) then return false end
  end
  return text:find("client:send", 1, true) or text:find("koresms.send {", 1, true)
    or text:find("koresms send[ -]") or text:find("campaign run", 1, true)
end

-- Lines in an order of their own, without what differs from one run to the next.
local function comparable(lines)
  local list = {}
  for _, line in ipairs(lines) do
    list[#list + 1] = line:gsub("%d+%.%d+", "N"):gsub(("%x"):rep(32), "ID")
  end
  table.sort(list)
  return list
end

local function each_block(visit)
  for _, page in ipairs(pages.with_code()) do
    for _, block in ipairs(pages.blocks(page)) do visit(block) end
  end
end

describe("the pages", function()
  local box, work

  setup(function()
    box = assert(sandbox.start())
    work = select(2, shell.run("mktemp -d"))
    local here = shell.absolute(".")
    shell.run(("mkdir %s/bin %s/koresms && ln -s %s/lua/koresms/* %s/koresms && ln -s %s/sandbox "
      .. "%s/koresms/sandbox"):format(work, work, here, work, here, work))
    command.write(work .. "/bin/koresms", ("#!/bin/sh\nexec %s %s/bin/koresms \"$@\"\n"):format(
      command.interpreter, here))
    command.write(work .. "/nginx.sh", NGINX)
    shell.run("chmod +x " .. work .. "/bin/koresms")
  end)

  teardown(function()
    box:stop()
    shell.run("rm -rf " .. shell.quote(work))
  end)

  local function run(block)
    assert(box:control("DELETE", "state"))
    local env = { HOME = work,
      PATH = work .. "/bin:" .. os.getenv("PATH") .. ":/usr/local/sbin:/usr/sbin:/sbin",
      LUA_PATH = ("%s/?.lua;%s/?/init.lua;;"):format(work, work),
      LUA_CPATH = ("%s/%s/?.so;;"):format(shell.absolute(os.getenv("KSMS_BUILD") or "build"),
        paths.version),
      KORESMS_RETRIES = "0", KORESMS_TIMEOUT = "2" }
    for _, pair in ipairs(box.env) do env[pair[1]] = pair[2] end
    local directory = work .. "/run"
    shell.run(("rm -rf %s && mkdir %s && ln -s ../bin %s/bin"):format(directory, directory,
      directory))
    command.write(directory .. "/people.csv", "to,id\n+911234567890,a\n+911234567891,b\n")
    command.write(directory .. "/block", table.concat(block, "\n") .. "\n")
    return shell.run(("cd %s && %s %s ./block 2>&1 </dev/null"):format(directory,
      command.prefix(env), RUNNERS[block.language]))
  end

  each_block(function(block)
    if block.reason or not applies(block) then return end
    it(("run as they stand: %s:%d"):format(block.page, block.line), function()
      assert.is_string(RUNNERS[block.language], "no way to run " .. block.language)
      local ok, output = run(block)
      assert.is_true(ok, output)
      assert.is_nil(output:find("usage:", 1, true), output)
      if block.prints then
        assert.same(comparable(block.prints), comparable(command.lines(output)))
      end
      if sends(table.concat(block, "\n")) then
        assert.not_same({}, box:get("messages?all=1").messages)
      end
    end)
  end)

  it("link to what is there", function()
    local dead = {}
    for _, page in ipairs(pages.all()) do
      for _, target in ipairs(pages.dead_links(page)) do
        dead[#dead + 1] = page .. ": " .. target
      end
    end
    assert.same({}, dead)
  end)
end)

describe("the README", function()
  it("is short enough to be read", function()
    local _, count = command.read("README.md"):gsub("\n", "")
    assert.is_true(count < 250, count .. " lines")
  end)
end)
