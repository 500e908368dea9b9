-- The annotations must not fall behind the code.
local config = require "koresms.config"
local koresms = require "koresms"
local verdict = require "koresms.verdict"

local function read(name)
  local file = assert(io.open(name))
  local text = file:read("*a")
  file:close()
  return text
end

-- The names of a block that begins with `first`, as `pattern` finds them.
local function names(text, first, pattern)
  local from = assert(text:find(first, 1, true), first)
  local block = text:sub(from, (text:find("\n\n", from, true)))
  local set = {}
  for name in block:gmatch(pattern) do set[name] = true end
  return set
end

describe("meta.lua", function()
  local meta = read("lua/koresms/meta.lua")

  it("is Lua", function()
    assert((loadstring or load)(meta)) -- luacheck: ignore 113
  end)

  it("has each option and no other", function()
    local options = names(meta, "---@class (exact) koresms.Options\n", "@field ([%w_]+)")
    for _, row in ipairs(config.settings) do
      assert.is_true(options[row.name], row.name)
      options[row.name] = nil
    end
    assert.is_nil(next(options))
  end)

  it("has each code and no other", function()
    local codes = names(meta, "---@alias koresms.Code\n", '"([%w_]+)"')
    local known = {}
    for code in pairs(verdict.not_sent) do known[code] = true end
    for code in pairs(verdict.unknown) do known[code] = true end
    for _, row in ipairs(verdict.replies) do if row.code then known[row.code] = true end end
    assert.same(known, codes)
  end)

  it("has each public function and method", function()
    for name, value in pairs(koresms) do
      if type(value) == "function" then
        assert.truthy(meta:find("function koresms." .. name .. "(", 1, true), name)
      end
    end
    local source = read("lua/koresms/client.lua")
    for name in source:gmatch("%-%- @function client:([%w_]+)") do
      if name ~= "probe" then
        assert.truthy(meta:find("function client:" .. name .. "(", 1, true), name)
      end
    end
  end)

  it("has each field of a result", function()
    local fields = names(meta, "---@class koresms.Result\n", "@field ([%w_]+)")
    local client = assert(koresms.new { host = "http://127.0.0.1:1", bot_id = "st-1",
      client_id = "cs-1", client_secret = "secret", retries = 0 })
    local _, _, _, result = client:send({ to = "x" })
    client:close()
    for name in pairs(result) do assert.is_true(fields[name], name) end
  end)
end)
