local beds = require "spec.support.sandbox_bed"
local run = require "spec.support.run"

local FROM, TO, failing = beds.FROM, beds.TO, beds.failing

local interpreter = arg and arg[-1] and arg[-1]:find("lua") and arg[-1]
  or rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d.%d")

describe("a client", function()
  local bed, client

  setup(function() bed = beds.start() end)
  teardown(function() bed:stop() end)

  before_each(function()
    bed:reset()
    client = bed:new()
  end)
  after_each(function() client:close() end)

  describe("raises at the caller's line for", function()
    local cases = {
      { "no message", {}, "bad argument #1 to 'send' (table expected, got nil)" },
      { "text", { "+911234567890" }, "table expected, got string" },
      { "a number that is a Lua number", { { to = 911234567890 } },
        "field 'to': string expected, got number" },
      { "an inherited number that is none",
        { setmetatable({}, { __index = { to = 911234567890 } }) },
        "field 'to': string expected, got number" },
      { "no recipient", { { from = FROM } }, "field 'to': string expected, got nil" },
      { "the platform's names", { { toNo = TO } }, "did you mean 'to'" },
      { "a message text", { { to = TO, text = "hello" } }, "unknown field 'text'" },
      { "an id that is no text", { { to = TO, id = 5 } }, "field 'id': string expected" },
      { "options that are none", { { to = TO }, 5 }, "bad argument #2 to 'send' (table expected" },
      { "an unknown option", { { to = TO }, { timout = 1 } }, "did you mean 'timeout'" },
      { "a timeout in text", { { to = TO }, { timeout = "1" } },
        "option 'timeout': number expected" },
      { "a timeout of 0", { { to = TO }, { timeout = 0 } }, "option 'timeout'" },
      { "a timeout that is no number", { { to = TO }, { timeout = 0 / 0 } }, "option 'timeout'" },
      { "half a repeat", { { to = TO }, { retries = 0.5 } }, "option 'retries'" },
      { "one argument too many", { { to = TO }, {}, 1 }, "bad argument #3" },
    }
    for _, case in ipairs(cases) do
      it(case[1], function()
        local ok, text = pcall(function()
          local unpack = table.unpack or unpack -- luacheck: ignore 143
          client:send(unpack(case[2]))
        end)
        assert.is_false(ok)
        assert.truthy(text:find(case[3], 1, true), text)
        assert.truthy(text:find("client_misuse_spec.lua:%d+:"), text)
        assert.is_nil(text:find("1234567", 1, true), text)
        assert.equal(0, bed:requests())
      end)
    end
  end)

  describe("raises at the caller's line, too, for", function()
    local function raised(wanted, f)
      local ok, text = pcall(f)
      assert.is_false(ok)
      assert.truthy(text:find(wanted, 1, true), text)
      assert.truthy(text:find("^[^:]*client_misuse_spec.lua:%d+:"), text)
      assert.is_nil(text:find("1234567", 1, true), text)
    end

    for _, method in ipairs({ "send", "send_many", "token", "close" }) do
      it("a dot in place of the colon: " .. method, function()
        for _, self in ipairs({ false, {}, { to = TO }, TO }) do
          raised(("write client:%s"):format(method), function()
            client[method](self or nil, {})
          end)
        end
      end)
    end

    it("an argument that token or close does not take", function()
      raised("bad argument #1 to 'token' (no value expected)", function() client:token(1) end)
      raised("bad argument #1 to 'close' (no value expected)", function() client:close(nil) end)
    end)

    it("a number or a token in place of a field's name, and hides it", function()
      raised("'+9112*****90'", function() client:send({ to = TO, [TO] = 1 }) end)
      local token = client:token()
      raised("'[token]'", function() client:send({ to = TO }, { [token] = 1 }) end)
    end)

    -- In a process without variables: the default client must not be one that can send.
    it("misuse of koresms.send, whatever the configuration", function()
      local name = run.directory() .. "/program.lua"
      run.write(name, [[
        local koresms, to = require "koresms", "+911234567890"
        print(select(3, koresms.send({ to = to })))
        for _, arguments in ipairs({ { { toNo = to } }, { { to = 911234567890 } },
          { { to = to, id = 5 } }, { { to = to }, { timout = 1 } }, { { to = to }, {}, 1 } }) do
          print(select(2, pcall(function()
            local unpack = table.unpack or unpack
            local result = koresms.send(unpack(arguments))
            return result
          end)))
        end]])
      local lines = {}
      for line in run.output(("env -i PATH=\"$PATH\" LUA_PATH=%s LUA_CPATH=%s %s %s %s 2>&1")
        :format(run.quote(package.path), run.quote(package.cpath), run.preload(), interpreter,
          run.quote(name))):gmatch("[^\n]+") do lines[#lines + 1] = line end
      run.clean()
      for i, wanted in ipairs({ "config", "did you mean 'to'", "field 'to': string expected",
        "field 'id': string expected", "did you mean 'timeout'", "bad argument #3 to 'send'" }) do
        assert.truthy(lines[i]:find(wanted, 1, true), lines[i])
        assert.truthy(i == 1 or lines[i]:find("program.lua:7:", 1, true), lines[i])
      end
    end)
  end)

  it("shows no secret, whoever prints it", function()
    local c = bed:new { client_secret = "MARKED-SECRET", proxy = "none" }
    local seen = {}
    local function walk(value)
      assert.is_nil(tostring(value):find("MARKED", 1, true))
      if type(value) == "table" and not seen[value] then
        seen[value] = true
        for k, v in pairs(value) do walk(k); walk(v) end
      end
    end
    walk(c)
    assert.truthy(tostring(c):find("koresms.client", 1, true))
    assert.equal("koresms.client", getmetatable(c))
    c:close()
  end)

  if _VERSION == "Lua 5.4" then
    it("is closed at the end of its block", function()
      local closed = load([[
        local client = ...
        do local c <close> = client end
        return client
      ]])(bed:new())
      assert.equal("cancelled", failing(closed).code)
    end)
  end
end)
