-- The reader of a proxy's address.
local core = require "koresms.core"

-- How people and programs write a byte: as it is, and percent-encoded in both cases.
local function encodings(byte)
  return { string.char(byte), ("%%%02X"):format(byte), ("%%%02x"):format(byte) }
end

-- Bytes that no user or password can hold, in whatever form.
local function is_control(byte) return byte < 32 or byte == 127 end

-- Bytes that an address holds percent-encoded only.
local encoded_only = { [" "] = true, ["#"] = true, ["?"] = true, ["/"] = true, ["@"] = true,
  ["%"] = true }

local schemes = { "http", "https", "socks5", "socks5h" }

-- Values without a run that stands in a fault's own words.
local USER, PASSWORD, HOST = "Qx7Zu", "Wv9Kp", "jq3.xw4.example"

describe("core.proxy", function()
  local function refused(text, wanted)
    local got, fault = core.proxy(text)
    assert.is_nil(got, fault)
    assert.is_string(fault)
    for _, mark in ipairs({ USER, PASSWORD, "jq3", "xw4" }) do
      assert.is_nil(fault:find(mark, 1, true), fault)
    end
    if wanted then assert.truthy(fault:find(wanted, 1, true), fault) end
    return fault
  end

  it("reads the parts", function()
    for text, wanted in pairs({
      ["http://h.example"] = { scheme = "http", host = "h.example", port = 1080 },
      ["http://h.example/"] = { scheme = "http", host = "h.example", port = 1080 },
      ["HTTP://h.example:3128"] = { scheme = "http", host = "h.example", port = 3128 },
      ["https://h.example"] = { scheme = "https", host = "h.example", port = 443 },
      ["socks5://127.0.0.1:9/"] = { scheme = "socks5", host = "127.0.0.1", port = 9 },
      ["socks5h://[::1]"] = { scheme = "socks5h", host = "::1", port = 1080 },
      ["http://u@[fe80::1]:65535"] = { scheme = "http", host = "fe80::1", port = 65535, user = "u",
        password = "" },
      ["http://u:@h"] = { scheme = "http", host = "h", port = 1080, user = "u", password = "" },
      ["http://u:a:b@h"] = { scheme = "http", host = "h", port = 1080, user = "u",
        password = "a:b" },
      ["http://u%40corp:S3cr%40t@h"] = { scheme = "http", host = "h", port = 1080,
        user = "u@corp", password = "S3cr@t" },
      ["socks5://a%3Ab:c@h"] = { scheme = "socks5", host = "h", port = 1080, user = "a:b",
        password = "c" },
    }) do
      assert.same(wanted, (core.proxy(text)), text)
    end
  end)

  it("refuses what is no address of a proxy, without quoting it, and says what would be right",
    function()
    for text, wanted in pairs({
      [""] = "http://", ["jq3.xw4.example"] = "http://", ["jq3.xw4.example:3128"] = "http://",
      ["//" .. HOST] = "http://", ["http:/" .. HOST] = "http://", ["http:" .. HOST] = "http://",
      ["ftp://" .. HOST] = "socks5h://", ["socks4://" .. HOST] = "socks5h://",
      ["socks4a://" .. HOST] = "socks5h://", ["socks://" .. HOST] = "socks5h://",
      ["http://"] = "is empty", ["http:///"] = "path", ["http://:3128"] = "no name before",
      ["http://" .. HOST .. ":"] = "no port number", ["http://" .. HOST .. ":0"] = "1 to 65535",
      ["http://" .. HOST .. ":99999"] = "1 to 65535", ["http://" .. HOST .. ":3128x"] = "character",
      ["http://" .. HOST .. ":-1"] = "no port number", ["http://" .. HOST .. ":31:28"] = "brackets",
      ["http://" .. HOST .. ":99999999999999999999"] = "1 to 65535",
      ["http://" .. HOST .. "/path"] = "%2F", ["http://" .. HOST .. "?q"] = "%3F",
      ["http://" .. HOST .. "#f"] = "%23", ["http://" .. HOST .. ";x"] = "character",
      ["http://[::1"] = "bracket", ["http://[::1:3128"] = "bracket", ["http://::1"] = "brackets",
      ["http://[]"] = "is empty", ["http://[jq3]"] = "IPv6", ["http://[1:2:3]"] = "IPv6",
      ["http://[::1%25eth0]"] = "IPv6", ["http://[127.0.0.1]"] = "IPv6",
      ["http://[::1]x"] = "character",
      ["http://127.0.0.256"] = "IPv4", ["http://127.0.0.08"] = "IPv4",
      ["http://2130706433"] = "IPv4",
      ["http://0x7f.1"] = "IPv4", ["http://127.1:80"] = "IPv4", ["http://jq3.1"] = "IPv4",
      ["http://j\195\182q.example"] = "character",
      ["http://" .. ("a"):rep(256)] = "255 bytes", ["http://" .. ("a"):rep(5000)] = "4096",
      ["http://@" .. HOST] = "no user", ["http://:" .. PASSWORD .. "@" .. HOST] = "no user",
      ["http://" .. USER .. ":" .. PASSWORD .. "@"] = "is empty",
      ["http://" .. USER .. ":" .. PASSWORD .. "@:80"] = "",
      ["http://" .. USER .. ":S3@" .. PASSWORD .. "@" .. HOST] = "%40",
      ["http://" .. USER .. "%3Ax:" .. PASSWORD .. "@" .. HOST] = "':'",
      ["http://" .. USER .. ":" .. PASSWORD .. "%@" .. HOST] = "%25",
      ["http://" .. USER .. ":" .. PASSWORD .. "%4@" .. HOST] = "%25",
      ["http://" .. USER .. ":" .. PASSWORD .. "%zz@" .. HOST] = "%25",
      ["socks5://" .. USER .. ":" .. ("p"):rep(256) .. "@" .. HOST] = "255",
      ["socks5h://" .. ("p"):rep(256) .. ":" .. PASSWORD .. "@" .. HOST] = "255",
      [" http://" .. HOST] = "blank", ["http://" .. HOST .. " "] = "blank",
      ["http://" .. HOST .. "\n"] = "line end", ["http://" .. HOST .. "\r\nX: y"] = "line end",
      ["http://" .. HOST .. "\0"] = "NUL", ["http://" .. HOST .. "\0.example"] = "NUL",
      ["http://" .. HOST .. "\27"] = "control",
    }) do
      refused(text, wanted)
    end
  end)

  it("takes every byte in user and password as it was meant, or refuses it", function()
    local taken = 0
    for _, scheme in ipairs(schemes) do
      for byte = 0, 255 do
        local c = string.char(byte)
        for form, written in ipairs(encodings(byte)) do
          for _, place in ipairs({ "user", "password" }) do
            local parts = { user = USER .. written .. USER, password = PASSWORD .. written
              .. PASSWORD }
            if place == "user" then parts.password = PASSWORD else parts.user = USER end
            -- Lua 5.1 and 5.2 end a formatted text at a NUL.
            local text = scheme .. "://" .. parts.user .. ":" .. parts.password .. "@" .. HOST
              .. ":8080"
            local where = ("%s, byte %d, form %d, %s"):format(scheme, byte, form, place)
            if is_control(byte) or form == 1 and encoded_only[c]
                or c == ":" and place == "user" and form > 1 and scheme:find("^http") then
              refused(text)
            elseif c == ":" and place == "user" and form == 1 then
              -- The first colon ends the user.
              local got = assert(core.proxy(text))
              assert.same({ USER, USER .. ":" .. PASSWORD }, { got.user, got.password }, where)
            else
              local got, fault = core.proxy(text)
              assert(got, where .. ": " .. tostring(fault))
              local wanted = { scheme = scheme, host = HOST, port = 8080, user = USER,
                password = PASSWORD }
              wanted[place] = wanted[place] .. c .. wanted[place]
              assert.same(wanted, got, where)
              taken = taken + 1
            end
          end
        end
      end
    end
    assert(taken > 4000, taken)
  end)

  it("never reads less than it was given, nor what is not there", function()
    -- Each beginning of a good address, and it with each byte in each place.
    local good = "http://us:p%41@[::1]:80/"
    for n = 0, #good do
      local got, fault = core.proxy(good:sub(1, n))
      assert.truthy(got or type(fault) == "string")
    end
    for place = 1, #good do
      for byte = 0, 255 do
        local text = good:sub(1, place - 1) .. string.char(byte) .. good:sub(place + 1)
        local got, fault = core.proxy(text)
        assert.truthy(got and got.port >= 1 and #got.host > 0 or type(fault) == "string", text)
      end
    end
  end)

  it("raises where it is given no text", function()
    assert.is_false(pcall(core.proxy))
    assert.is_false(pcall(core.proxy, {}))
  end)
end)
