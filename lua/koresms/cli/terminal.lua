--- Terminals: whether a descriptor is one, how wide it is, colours, and a line that is drawn anew.
local clock = require("koresms.core").clock

local M = {}

-- Seconds between two drawings.
local OFTEN = 0.2

local is = {}

--- Whether a descriptor is a terminal.
-- @tparam number descriptor
-- @treturn boolean
function M.is(descriptor)
  if is[descriptor] == nil then
    local ok = os.execute("[ -t " .. descriptor .. " ]")
    is[descriptor] = ok == true or ok == 0
  end
  return is[descriptor]
end

-- The columns of the terminal of standard error.
local function columns()
  local pipe = io.popen("stty size 2>/dev/null <&2")
  local text = pipe and pipe:read("*a") or ""
  if pipe then pipe:close() end
  local width = tonumber(text:match("^%d+ (%d+)"))
  return width and width > 0 and width or 80
end

local colours = { green = "32", yellow = "33", red = "31" }

--- A text in a colour, where a descriptor is a terminal that shows some. See https://no-color.org
-- @tparam number descriptor
-- @tparam string name
-- @tparam string text
-- @treturn string
function M.colour(descriptor, name, text)
  local no_color, kind = os.getenv("NO_COLOR") or "", os.getenv("TERM") or "dumb"
  if no_color ~= "" or kind == "dumb" or not M.is(descriptor) then
    return text
  end
  return ("\27[%sm%s\27[0m"):format(colours[name], text)
end

local line = {}
line.__index = line

--- A line on the terminal of standard error; where there is none, or it is not wanted, it is never
-- drawn.
-- @tparam ?boolean quiet
-- @treturn table
function M.line(quiet)
  local drawing = not quiet and M.is(2)
  return setmetatable({
    drawing = drawing, width = drawing and columns() or 80,
    shared = drawing and M.is(1), -- results go to the same terminal
    again = 0, -- when to draw
    drawn = 0, -- columns of what stands there
  }, line)
end

--- Draws the line, where it is time to.
-- @tparam function text returns it, for a width that it must not pass
function line:draw(text)
  if not self.drawing or clock() < self.again then return end
  -- A line that wraps could not be drawn over.
  local shown = text(self.width - 1):sub(1, self.width - 1)
  io.stderr:write("\r", shown, (" "):rep(self.drawn - #shown))
  self.drawn, self.again = #shown, clock() + OFTEN
end

--- Takes the line away, so that other text can be written.
function line:clear()
  if self.drawn == 0 then return end
  io.stderr:write("\r", (" "):rep(self.drawn), "\r")
  self.drawn = 0
end

--- Makes room for a result, where it goes to the same terminal.
function line:make_way()
  if self.shared then self:clear() end
end

return M
