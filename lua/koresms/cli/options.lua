--- Values of options that more than one command has.
local mask = require "koresms.mask"

local M = {}

local function number_of(option, low, high, whole)
  return function(text)
    local number = text:find("^%d*%.?%d+$") and tonumber(text)
    if number and number >= low and number <= high and not (whole and number % 1 ~= 0) then
      return whole and math.floor(number) or number
    end
    return nil, ("%s: '%s' is not a %snumber from %.14g to %.14g"):format(option,
      mask.text(text, 40), whole and "whole " or "", low, high)
  end
end

--- A check of an option's value, for argparse: a number within bounds.
-- @function number_of
-- @tparam string option such as "--timeout"
-- @tparam number low
-- @tparam number high
-- @tparam ?boolean whole
-- @treturn function text -> number, or nil and a text
M.number_of = number_of

--- Adds --timeout.
function M.timeout(command)
  command:option("--timeout"):argname("SECONDS"):convert(number_of("--timeout", 0.001, 86400))
    :overwrite(false)
    :description("For a message, its repeats included; default: KORESMS_TIMEOUT, else 10.")
end

--- Adds --concurrency.
function M.concurrency(command)
  command:option("--concurrency"):argname("N"):convert(number_of("--concurrency", 1, 1024, true))
    :overwrite(false):description("Messages in flight at most, 1 to 1024; default: 16.")
end

--- Adds --verbose.
function M.verbose(command)
  command:flag("--verbose"):description("Print attempts, repeats, pauses and verdicts, too.")
end

return M
