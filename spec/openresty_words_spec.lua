-- What whoever is on the wrong way is told inside nginx.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so once is enough.
if paths.version ~= "jit" then return end

local openresty_support = require "spec.support.openresty"
local run = require "spec.support.run"

describe("inside nginx koresms says what was meant:", function()
  local nginx, work

  setup(function()
    nginx = openresty_support.start()
    work = run.directory()
  end)
  teardown(function()
    local log = nginx:log()
    nginx:stop()
    run.clean()
    assert.equal("", log)
  end)

  local GOOD = { host = "platform.kore.ai", bot_id = "st-1", client_id = "cs-1",
    client_secret = "MARKED-secret",
    from = "+19876543210" }

  it("settings that are soiled, missing, or not for here", function()
    run.output(("openssl genrsa 2048 2>/dev/null | openssl pkcs8 -topk8 -v2 aes-256-cbc -passout "
      .. "pass:x -out %s/key")
      :format(work))
    local cases = {
      { { host = false, bot_id = false }, "host is required", "bot_id is required",
        "the directive `env`" },
      { { proxy = "http://u:MARKED@MARKED@h" }, "option 'proxy': has more than one '@'", "%40" },
      { { proxy = "http://u:MARKED%0a@h" }, "option 'proxy': has a control character" },
      { { proxy = "socks5h://u:MARKED@h" }, "proxy: only an http:// proxy" },
      { { client_cert = work .. "/key", client_key = work .. "/key" }, "client_cert",
        "is encrypted" },
      { { client_secret = "MARKED\n" }, "option 'client_secret': has a line end" },
      { { client_id = "\239\187\191cs-1" }, "option 'client_id': has a byte order mark" },
      { { host = "platform.kore.ai\r" }, "option 'host': has a line end" },
      { { bot_id = "st\27[2J" }, "option 'bot_id': has a blank, line end" },
    }
    for _, case in ipairs(cases) do
      local settings = {}
      for name, value in pairs(GOOD) do settings[name] = value end
      for name, value in pairs(case[1]) do settings[name] = value or nil end
      local text = nginx:run([[
        local client, text = require("koresms").new(given)
        return { text = client and "a client" or text } ]], settings).text
      for i = 2, #case do assert.truthy(text:find(case[i], 1, true), text) end
      assert.is_nil(text:find("MARKED", 1, true), text)
    end
  end)

  it("numbers as spreadsheets and address books leave them, and texts", function()
    local texts = nginx:run([[
      local koresms, texts = require "koresms", {}
      local client = assert(koresms.new(given))
      for i, to in ipairs { "'+911234567890", "+91\194\1601234567890", "9.11234E+11",
          "tel:+911234567890" } do
        texts[i] = select(2, client:send { to = to })
      end
      local message = { to = "+911234567890", text = "hello" }
      for _, call in ipairs { function() client:send(message) end,
          function() koresms.later(message) end,
          function() koresms:send(message) end } do
        texts[#texts + 1] = select(2, pcall(call))
      end
      return texts ]], GOOD)
    for i, wanted in ipairs({ "quote", "no-break", "scientific notation", "tel:",
      "the API takes no text",
      "the API takes no text", "write koresms.send" }) do
      assert.truthy(texts[i]:find(wanted, 1, true), texts[i])
    end
  end)
end)
