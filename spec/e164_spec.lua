local core = require "koresms.core"
local koresms = require "koresms"

describe("e164", function()
  local good = { "+12", "+911234567890", "+19876543210", "+123456789012345" }
  for _, number in ipairs(good) do
    it("takes " .. number, function()
      assert.equal(number, core.e164(number))
    end)
  end

  -- What is wrong, at which byte, and what the text must name.
  local bad = {
    { "", nil, "empty" },
    { "+", 1, "too short" },
    { "+1", 2, "too short" },
    { "911234567890", 1, "no '+'" },
    { "07911123456", 1, "no '+'" },
    { "12345", 1, "short code" },
    { "+0123456", 2, "leading zero" },
    { "+1234567890123456", 17, "too long" },
    { "+91 1234567890", 4, "blank" },
    { " +911234567890", 1, "blank" },
    { "+911234567890\n", 14, "line end" },
    { "+911234567890\0", 14, "NUL" },
    { "\0+911234567890", 1, "NUL" },
    { "+91-1234567890", 4, "punctuation" },
    { "+(91)1234567890", 2, "punctuation" },
    { "+91123x", 7, "letter" },
    { "KORE", 1, "letter" },
    { "++911234567890", 2, "second '+'" },
    { "+\217\163\217\164\217\165", 2, "other scripts" }, -- Arabic-Indic digits
    { "+\239\188\145\239\188\146", 2, "other scripts" }, -- fullwidth digits
    { "tel:+911234567890", 1, "tel:" },
    { "00911234567890", 1, "'00'" },
    { "011911234567890", 1, "'011'" },
    { "+91;123", 4, "one number belongs here" },
    -- What spreadsheets, address books, chat programs and web pages make of numbers.
    { "'+911234567890", 1, "quote" },
    { '"+911234567890"', 1, "quote" },
    { '="+911234567890"', 1, "formula" },
    { "\226\128\156+911234567890\226\128\157", 1, "quote" },
    { "9.11235E+11", 1, "scientific notation" },
    { "9,11235E+11", 1, "scientific notation" },
    { "+9.11235e11", 1, "scientific notation" },
    { "911234567890.0", 1, "no '+'" },
    { "+911234567890.0", 14, "punctuation" },
    { "\194\160+911234567890", 1, "no-break" },
    { "+91\194\1601234567890", 4, "no-break" },
    { "+91\226\128\1751234567890", 4, "blank of another kind" },
    { "\226\128\170+911234567890\226\128\172", 1, "invisible" },
    { "+911234567890\226\128\172", 14, "invisible" },
    { "+91\226\128\1391234567890", 4, "invisible" },
    { "+91\194\1731234567890", 4, "invisible" },
    { "\239\187\191+911234567890", 1, "invisible" },
    { "+91\226\128\1451234567890", 4, "dash" },
    { "+91\226\136\1461234567890", 4, "dash" },
    { "\239\188\139911234567890", 1, "ASCII one" },
    { "TEL:+911234567890", 1, "tel:" },
    { "sms:+911234567890", 1, "tel:" },
    { "whatsapp:+911234567890", 1, "tel:" },
    { "911234567890@c.us", 1, "no '+'" },
    { "+911234567890,+911234567891", 14, "one number" },
    { "+911234567890;ext=5", 14, "extension" },
    { "+911234567890x5", 14, "letter" },
    { "+91(0)1234567890", 4, "punctuation" },
    { "+O11234567890", 2, "letter" },
    { "\226", 1, "not an ASCII digit" },
    { "\226\128", 1, "not an ASCII digit" },
    { "+91\226\128", 4, "not an ASCII digit" },
    { "N/A", 1, "letter" },
    { "#N/A", 1, "not a digit" },
  }
  for _, case in ipairs(bad) do
    it(("refuses %q"):format(case[1]), function()
      local number, text, code = koresms.e164(case[1])
      assert.is_nil(number)
      assert.equal("invalid_number", code)
      assert.truthy(text:find(case[3], 1, true), text)
      if case[2] then
        assert.truthy(text:find("at byte " .. case[2] .. ":", 1, true), text)
      end
      assert.is_nil(case[1] ~= "" and #case[1] > 6 and text:find(case[1], 1, true) or nil)
    end)
  end

  it("agrees with the grammar on every short text over a small alphabet", function()
    local alphabet = { "+", "0", "1", "9", "a" }
    local function each(prefix, left)
      local wanted = prefix:find("^%+[1-9][0-9]+$") ~= nil
      assert.equal(wanted, core.e164(prefix) ~= nil, prefix)
      if left == 0 then return end
      for _, c in ipairs(alphabet) do each(prefix .. c, left - 1) end
    end
    each("", 5)
  end)

  it("raises for what is no string", function()
    for _, value in ipairs({ 911234567890, true, {} }) do
      assert.has_error(function() koresms.e164(value) end)
    end
    assert.has_error(function() koresms.e164() end)
    assert.has_error(function() koresms.e164(nil) end)
    assert.has_error(function() koresms.e164("+12", 5) end)
  end)

  it("raises at the caller's line, however it is called", function()
    for _, arguments in ipairs({ { 5 }, { "+12", 5 } }) do
      local _, text = pcall(koresms.e164, arguments[1], arguments[2])
      assert.truthy(text:find("e164_spec.lua:%d+: bad argument #%d to 'e164'"), text)
    end
  end)
end)
