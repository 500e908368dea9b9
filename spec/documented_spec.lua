-- Whatever can be called is documented where it stands, and what users call on the pages, too.
local run = require "spec.support.run"

local function read(name)
  local file = assert(io.open(name))
  local text = file:read("*a")
  file:close()
  return text
end

local function lines_of(text)
  local list = {}
  for line in (text .. "\n"):gmatch("(.-)\n") do list[#list + 1] = line end
  return list
end

-- Whether the comment that ends above a line begins as one of LDoc does.
local function has_comment(lines, at)
  local first
  while lines[at - 1] and lines[at - 1]:find("^%-%-") do
    at = at - 1
    first = lines[at]
  end
  return first and first:find("^%-%-%-[^-]") ~= nil
end

-- The functions of a table that a file gives to others, without a comment.
local function undocumented(path, tables)
  local lines, missing = lines_of(read(path)), {}
  for at, line in ipairs(lines) do
    local owner, name = line:match("^function ([%w_]+)[.:]([%w_]+)%(")
    if owner and tables[owner] and not has_comment(lines, at) then
      missing[#missing + 1] = ("%s:%d: %s"):format(path, at, name)
    end
  end
  return missing
end

-- What users call: where it stands in the sources, and on which page, as it is written there.
local PUBLIC = {
  { "lua/koresms/init.lua", "M", "docs/reference.md", "`koresms." },
  { "lua/koresms/client.lua", "client", "docs/reference.md", "`client:" },
  { "lua/koresms/store/init.lua", "store", "docs/reference.md", "`store:" },
  { "lua/koresms/store/campaigns.lua", "campaigns", "docs/reference.md", "`store:" },
  { "sandbox/init.lua", "M", "docs/sandbox.md", "sandbox." },
  { "sandbox/init.lua", "Box", "docs/sandbox.md", "box:" },
}

-- Functions that a file marks as its project's own.
local function locals_of(text)
  local set = {}
  for block in text:gmatch("%-%-%-[^\n]*\n(.-)\n[^-]") do
    local name = block:match("@function [%w_]+:([%w_]+)")
    if name and block:find("@local", 1, true) then set[name] = true end
  end
  return set
end

describe("every function", function()
  it("that users call is documented where it stands", function()
    for _, row in ipairs(PUBLIC) do
      assert.same({}, undocumented(row[1], { [row[2]] = true }))
    end
  end)

  it("that users call stands on a page", function()
    for _, row in ipairs(PUBLIC) do
      local text, page, count = read(row[1]), read(row[3]), 0
      local own = locals_of(text)
      for name in ("\n" .. text):gmatch("\nfunction " .. row[2] .. "[.:]([%w_]+)%(") do
        count = count + 1
        assert(own[name] or page:find(row[4] .. name, 1, true),
          ("%s: nothing about %s%s"):format(row[3], row[4], name))
      end
      assert.is_true(count > 0, row[1])
    end
  end)

  it("that one module gives to another is documented where it stands", function()
    local missing = {}
    for path in run.output("find lua/koresms sandbox -name '*.lua'"):gmatch("[^\n]+") do
      -- Each command is a table of the same functions, which cli/init.lua describes.
      if not path:find("/cli/", 1, true) and path ~= "lua/koresms/meta.lua" then
        for _, text in ipairs(undocumented(path, { M = true })) do missing[#missing + 1] = text end
      end
    end
    assert.same({}, missing)
  end)

  it("of the C modules that Lua sees is documented where it stands", function()
    local missing, count = {}, 0
    for path in run.output("ls src/*.c"):gmatch("[^\n]+") do
      local text = read(path)
      for list in text:gmatch("luaL_Reg [%w_]+%[%] = (%b{})") do
        for name in list:gmatch('{"([%w_]+)", [%w_]+}') do
          count = count + 1
          if not (text:find("@function " .. name .. "\n", 1, true)
              or text:find("@function [%w_]+:" .. name .. "\n")) then
            missing[#missing + 1] = path .. ": " .. name
          end
        end
      end
    end
    assert.is_true(count > 20, count)
    assert.same({}, missing)
  end)

  it("is found by LDoc without a warning", function()
    local directory = run.directory()
    local out = run.output(("ldoc --dir %s --config config.ld . 2>&1"):format(directory))
    run.clean()
    assert.matches("^reading configuration from config.ld\noutput written to [^\n]+\n$", out)
  end)
end)
