-- The small pure modules: dates, near misses.
local http_date = require "koresms.http_date"
local misuse = require "koresms.misuse"

describe("http_date", function()
  it("reads the three forms", function()
    for _, text in ipairs({ "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
      "Sun Nov  6 08:49:37 1994" }) do
      assert.equal(784111777, http_date.parse(text))
    end
    assert.equal(0, http_date.parse("Thu, 01 Jan 1970 00:00:00 GMT"))
    assert.equal(951782400, http_date.parse("Tue, 29 Feb 2000 00:00:00 GMT"))
    assert.equal(4102444799, http_date.parse("Thu, 31 Dec 2099 23:59:59 GMT"))
  end)

  it("refuses everything else", function()
    for _, text in ipairs({ "", "soon", "Sun, 06 Nov 1994 08:49:37", "Sun, 6 Nov 1994 08:49:37 GMT",
      "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 40 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 28:49:37 GMT", "120" }) do
      assert.is_nil(http_date.parse(text), text)
    end
  end)
end)

describe("misuse", function()
  it("finds the name that was meant", function()
    local known = { from = true, to = true, id = true, timeout = true, bot_id = true }
    assert.equal("from", misuse.suggest("fromNo", known))
    assert.equal("to", misuse.suggest("toNo", known))
    assert.equal("timeout", misuse.suggest("timout", known))
    assert.equal("bot_id", misuse.suggest("botId", known))
    assert.equal("bot_id", misuse.suggest("bot-id", known))
    assert.equal("bot_id", misuse.suggest("bot", known))
    assert.is_nil(misuse.suggest("colour", known))
    assert.is_nil(misuse.suggest(5, known))
  end)

  local koresms = require "koresms"

  -- What is raised where a function is called, with this file's name before it.
  local function raised(f, ...)
    local ok, text = pcall(f, ...)
    assert.is_false(ok)
    return text
  end

  it("tells whoever gives a text where texts come from", function()
    local client = assert(koresms.new { host = "h.example", bot_id = "st-1", client_id = "cs-1",
      client_secret = "secret" })
    for _, name in ipairs({ "text", "body", "message", "Text", "msg" }) do
      local message = { to = "+911234567890", [name] = "hello" }
      for _, text in ipairs({ raised(client.send, client, message), raised(koresms.send, message),
        raised(koresms.new, { [name] = "hello" }), raised(client.send, client, { to = "+12" },
          { [name] = "x" }),
        raised(function() for _ in client:send_many({ message }) do error("sent") end end) }) do
        assert.matches("unknown %l+ '" .. name
          .. "'; the API takes no text: it comes from the experience flow", text)
        assert.not_matches("hello", text, 1, true)
      end
    end
    client:close()
  end)

  it("explains a colon where a dot belongs", function()
    for _, name in ipairs({ "send", "new", "later", "e164" }) do
      local text = raised(function() return koresms[name](koresms, { to = "+911234567890" }) end)
      assert.matches("text_spec.lua:%d+: calling '" .. name .. "' with a colon %(write koresms%."
        .. name .. "%)", text)
    end
  end)
end)
