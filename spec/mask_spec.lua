-- What is hidden from people, and what is cleaned.
local mask = require "koresms.mask"
local utf8 = require "koresms.utf8"

-- Everything that people, programs and documents put between the digits of a number.
local SEPARATORS = { "", " ", "  ", "-", ".", "/", "(", ")", ") ", " (", "_", ",", "*", "~", "\t",
  "\n", "\r\n",
  "\0", "\11", "\127", "\194\160", "\194\173", "\226\128\135", "\226\128\137", "\226\128\139",
  "\226\128\142", "\226\128\168", "\226\128\170", "\226\128\175", "\226\129\160", "\227\128\128",
  "\239\187\191", "\239\184\143\226\131\163", "\226\128\144", "\226\128\145", "\226\128\147",
  "\226\128\148", "\226\136\146", "\194\183", "\226\128\162", "\226\129\132", "\255", "\155",
  "&nbsp;", "%20" }

-- A number in groups, as it is written in India, in North America, and by nobody.
local GROUPS = { { "91", "55734", "09121" }, { "91", "557", "340", "9121" }, { "1", "999", "826",
  "5173" },
  { "9", "1", "5", "5", "7", "3", "4", "0", "9", "1", "2", "1" }, { "0091", "5573409121" } }

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

  it("shows digits alone of a number that is none", function()
    for byte = 0, 255 do
      local c = string.char(byte)
      for _, number in ipairs({ "+9" .. c .. "11234567890", "+911" .. c .. "234567890",
        "+91123456789" .. c,
        "+91123456" .. c .. "7890", c .. "+911234567890", "+" .. c .. "911234567890" }) do
        assert.matches("^%+?%d*%*%*%*%*%*%d*$", mask.number(number))
      end
    end
  end)

  it("cleans foreign text", function()
    assert.equal("a b c", mask.text("a\0b\27c"))
    assert.equal(("x"):rep(300) .. "...", mask.text(("x"):rep(1000)))
    assert.equal(("é"):rep(150) .. "...", mask.text(("é"):rep(1000)))
    assert.equal("x" .. ("é"):rep(149) .. "...", mask.text("x" .. ("é"):rep(1000)))
    assert.equal("code 4002, HTTP 401", mask.text("code 4002, HTTP 401"))
    assert.equal("a b c d", mask.text("a\194\155b\226\128\174c\226\128\168d"))
    assert.equal("Stra\239\191\189e", mask.text("Stra\223e"))
  end)

  it("leaves no byte that steers a terminal, whatever surrounds it", function()
    for _, clean in ipairs({ mask.text, mask.printable }) do
      for byte = 0, 255 do
        for _, around in ipairs({ { "", "" }, { "a", "b" }, { "1", "2" }, { "\194", "" },
          { "\226\128", "" },
          { "\239\187", "" }, { "é", "é" }, { "\27[", "m" } }) do
          local shown = clean(around[1] .. string.char(byte) .. around[2])
          assert.is_nil(shown:find("[%z\1-\31\127]"))
          assert.is_nil(shown:find("\194[\128-\159]"))
          assert.is_nil(utf8.fault(shown))
        end
      end
      for _, steering in ipairs({ "\226\128\174", "\226\128\173", "\226\129\166", "\226\128\143",
        "\216\156",
        "\226\128\168", "\226\128\169", "\239\187\191", "\243\160\129\129" }) do
        assert.equal("a b", clean("a" .. steering .. "b"))
      end
    end
    assert.equal("Ünïcödé ✓ 中", mask.printable("Ünïcödé ✓ 中"))
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
      "24/11/2026 12:40",
      "2026/11/24 12:40:53.123", "request 12345678901234567890", "limits 60 and 1800, status 412",
      "10.0.0.127:8443", "192.168.100.200", "192.168.100.200:65535", "trace 4bf92f35-77b3-4da6",
      "[24/Nov/2026:12:40:53 +0000]", "2001:4860:4860::8888", "[2001:4860:4860:0:0:0:0:8844]:443",
      "error:14094410:SSL routines:ssl3_read_bytes",
      "TLS connect error: error:00000000:lib(0)::reason(0)",
      "after 1234 ms, 2 of 500000 rows", "port 1, +5, + 12:30" }) do
      assert.equal(text, mask.text(text))
    end
  end)

  it("hides them with anything between their digits", function()
    local looked = 0
    for _, groups in ipairs(GROUPS) do
      local digits = table.concat(groups)
      for _, separator in ipairs(SEPARATORS) do
        for _, plus in ipairs({ "+", "", "(+", "\239\188\139" }) do
          local number = plus .. table.concat(groups, separator)
          for _, around in ipairs({ { "", "" }, { "to ", ", no" }, { "toNo=", "&x" },
            { "401 ", " 4002" },
            { "\"", "\"" }, { "é", "é" } }) do
            local shown = mask.text(around[1] .. number .. around[2])
            local bare = shown:gsub("%D", "")
            assert.is_nil(bare:find(digits:sub(4, -3), 1, true), ("%q -> %s"):format(number, shown))
            looked = looked + 1
          end
        end
      end
    end
    assert(looked > 4000)
  end)

  it("hides them with what parts other things too, where there is a '+'", function()
    for separator in (":;|&='\"\\"):gmatch(".") do
      local number = table.concat({ "+91", "5573", "4091", "21" }, separator)
      assert.equal("to +9155*****21, no", mask.text("to " .. number .. ", no"))
    end
  end)

  it("hides them with marks of HTML between", function()
    for _, mark in ipairs({ "<b>", "</b>", "<br/>", "<span class='x'>", "</td><td>",
      "</b> <b>", "</span>\n<span>", "<b><i>", "<!-- -->" }) do
      local digits = "9155" .. mark .. "7340" .. mark .. "9121"
      assert.equal("to 9155*****21, no", mask.text("to " .. digits .. ", no"))
      assert.equal("to +9155*****21, no", mask.text("to +" .. digits .. ", no"))
    end
  end)

  it("hides them with what HTML, addresses and JSON write between", function()
    for _, mark in ipairs({ "&#160;", "&#xa0;", "&#32;", "&#8209;", "&#x2011;", "&shy;", "&ndash;",
      "&thinsp;", "&#45;", "%2D", "%C2%A0", "+", "\\/", "\\t", "\226\128\167" }) do
      for _, plus in ipairs({ "", "+", "%2B" }) do
        -- Without any, a '+' between is an addition.
        if mark == "+" and plus == "" then plus = "+" end
        local shown = mask.text("to=" .. plus .. "9155" .. mark .. "7340" .. mark .. "9121&x")
        assert.is_nil(shown:gsub("%D", ""):find("155734", 1, true), mark .. " -> " .. shown)
      end
    end
  end)

  it("leaves the zones of times, and comparisons", function()
    for _, text in ipairs({ "2026-11-27T16:24:00+0530|429|30001", "16:24:00+05:30|2026-11-27",
      "T16:24:00.123+01:00=12345", "UTC+5:30;2026", "if x <y and z>5 then",
      "quota <limit 60 per minute; see docs>429" }) do
      assert.equal(text, mask.text(text))
    end
    assert.equal("12:30+9112*****90", mask.text("12:30+9112 3456 7890"))
  end)

  it("hides digits of other scripts", function()
    for _, digits in ipairs({ { "\217", 160 }, { "\219", 176 }, { "\224\165", 166 },
      { "\224\167", 166 },
      { "\239\188", 144 } }) do
      local number = ("911234567890"):gsub("%d", function(d)
        return digits[1] .. string.char(digits[2] + d)
      end)
      assert.equal("to 9112*****90", mask.text("to " .. number))
    end
  end)

  it("hides a token that was cut off", function()
    assert.equal("bad [token]", mask.text("bad eyJhbGciOiJIUzI1NiJ9.eyJhcHBJZCI6"))
    assert.equal("bad [token]!", mask.text("bad eyJhbGciOiJIUzI1NiJ9.eyJhcHBJZCI6.x_y-z!"))
  end)

  it("takes no longer for a long text than it is long", function()
    local begin = os.clock()
    for _, piece in ipairs({ "1 ", "1-", "+1(", "+1", "1", " ", "+1 1 (", "eyJ", "eyJ.a", "1--",
      "+(", "1,", "+ " }) do
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

  it("shows a library's text without secrets, whole or half", function()
    local secret = "S3cr@t-w0rd%.x"
    local clean = mask.cleaner({ secret, "another-one-of-them" })
    assert.equal("Couldn't connect to server", clean("Couldn't connect to server"))
    assert.equal("syntax in 'http://u:[secret]@h'", clean("syntax in 'http://u:" .. secret
      .. "@h'"))
    assert.equal("[secret]", clean(secret .. secret))
    assert.equal("a [secret], b [secret]", clean("a another-one-of-them, b " .. secret))
    for from = 1, #secret - 7 do
      local half = secret:sub(from, from + 7)
      assert.is_nil(clean("resolve " .. half .. "!"):find(half, 1, true))
    end
    assert.equal("CN=x [31m to +9112*****90", clean("CN=x\n\27[31m to +91 1234 567890"))
  end)

  it("shows nothing of a library's text that holds a secret too short to be cut out", function()
    local clean = mask.cleaner({ "bob", "a long enough one" })
    assert.equal(mask.UNTOLD, clean("Could not resolve bob"))
    assert.equal(mask.UNTOLD, clean("for BOBBY"))
    local told = "CONNECT tunnel failed, response 407"
    assert.equal(told, clean(told))
    assert.equal("x", mask.cleaner({ "" })("x"))
    assert.equal("x", mask.cleaner({})("x"))
  end)
end)
