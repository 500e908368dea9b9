-- The small pure modules: masks, dates, near misses.
local http_date = require "koresms.http_date"
local mask = require "koresms.mask"
local misuse = require "koresms.misuse"

describe("mask", function()
  it("hides the middle of a number, and how long it is", function()
    assert.equal("+9112*****90", mask.number("+911234567890"))
    assert.equal("+1234*****45", mask.number("+123456789012345"))
    assert.equal("+9*****", mask.number("+91123456"))
    assert.equal("*****", mask.number("911234567890"))
    assert.equal("*****", mask.number(911234567890))
    assert.equal("*****", mask.number(nil))
  end)

  it("never shows more than seven digits of anything", function()
    for length = 2, 15 do
      local number = "+" .. ("123456789012345"):sub(1, length)
      local shown = mask.number(number):gsub("%D", "")
      assert.truthy(#shown <= math.max(1, length - 3), number)
    end
  end)

  it("cleans foreign text", function()
    assert.equal("a b c", mask.text("a\0b\27c"))
    assert.equal(("x"):rep(300) .. "...", mask.text(("x"):rep(1000)))
    assert.equal(("é"):rep(150) .. "...", mask.text(("é"):rep(1000)))
    assert.equal("x" .. ("é"):rep(149) .. "...", mask.text("x" .. ("é"):rep(1000)))
    assert.equal("code 4002, HTTP 401", mask.text("code 4002, HTTP 401"))
  end)

  it("hides numbers in any form that a platform may give them", function()
    for _, number in ipairs({ "+911234567890", "911234567890", "00911234567890", "+91 12345 67890",
      "+91-12345-67890", "+91.1234.567890", "+91 (1234) 567890", "91 12345 67890",
      "91-12345-67890", "123 91 12345 67890" }) do
      local shown = mask.text("to " .. number .. ", no")
      assert.truthy(#shown:gsub("%D", "") <= 7, shown)
      assert.truthy(shown:find("^to .*%*%*%*%*%*%d%d, no$"), shown)
    end
    for _, text in ipairs({ "at 2026-11-24 12:40:53", "Tue, 24 Nov 2026 12:40:53 GMT",
      "request 12345678901234567890", "limits 60 and 1800, status 412", "10.0.0.127:8443",
      "trace 4bf92f35-77b3-4da6" }) do
      assert.equal(text, mask.text(text))
    end
  end)

  it("takes no longer for a long text than it is long", function()
    local begin = os.clock()
    for _, piece in ipairs({ "1 ", "1-", "+1(", "+1", "1", " ", "+1 1 (", "eyJ", "eyJ.a", "1--" }) do
      mask.text(piece:rep(200000))
      mask.text("1" .. piece:rep(200000), 1000)
    end
    assert.truthy(os.clock() - begin < 5, os.clock() - begin)
  end)

  it("hides the token that was sent, unless it is too short to be one", function()
    assert.equal("bad [token]!", mask.text("bad s%cr+t.8!", nil, "s%cr+t.8"))
    assert.equal("Invalid JWT token", mask.text("Invalid JWT token", nil, "token"))
    assert.equal("Invalid JWT token", mask.text("Invalid JWT token", nil, ""))
  end)
end)

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
    assert.equal("from", misuse.meant("fromNo", known))
    assert.equal("to", misuse.meant("toNo", known))
    assert.equal("timeout", misuse.meant("timout", known))
    assert.equal("bot_id", misuse.meant("botId", known))
    assert.equal("bot_id", misuse.meant("bot-id", known))
    assert.is_nil(misuse.meant("colour", known))
    assert.is_nil(misuse.meant(5, known))
  end)
end)
