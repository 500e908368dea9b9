--- The bytes of an input that is read twice: first to check all of it, then to send it.
--
-- What cannot be read twice (a pipe, a terminal) is kept in a temporary file meanwhile. The
-- second reading ends where the first one did, whatever is appended in between.
local checked_io = require "koresms.cli.checked_io"
local descriptors = require "koresms.cli.descriptors"

local M = {}

local CHUNK = 65536

local spool = {}
spool.__index = spool

--- Opens a file, or standard input.
-- @tparam string path "-" for standard input
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
function M.open(path)
  local file, why = io.stdin, nil
  if path ~= "-" then file, why = io.open(path, "rb") end
  if path == "-" and descriptors.closed[0] then return nil, "it is closed" end
  if not file then return nil, why end
  local self = setmetatable({ file = file, size = 0 }, spool)
  self.start = file:seek("cur")
  -- A device can be told to seek, and does not.
  if not self.start or not file:seek("end") or not file:seek("set", self.start) then
    self.start = 0
    self.copy, why = io.tmpfile()
    if not self.copy then
      return nil, ("no temporary file can be made: %s; give the input as a file"):format(
        tostring(why))
    end
  end
  return self
end

local function first_time(self)
  local text, why = self.file:read(CHUNK)
  if not text then return nil, why end
  if self.copy then
    local written, reason = checked_io.write(self.copy, text)
    if not written then
      return nil, "it cannot be kept in a temporary file: " .. tostring(reason)
    end
  end
  self.size = self.size + #text
  return text
end

local function second_time(self)
  if self.left == 0 then return nil end
  local text, why = self.file:read(math.min(CHUNK, self.left))
  if not text then return nil, why or "it has become shorter since it was checked" end
  self.left = self.left - #text
  return text
end

--- The next piece.
-- @treturn ?string nil at the end
-- @treturn ?string why the end is none
function spool:read()
  return (self.left and second_time or first_time)(self)
end

--- Whether the input cannot be read twice, and is kept meanwhile.
function spool:is_kept()
  return self.copy ~= nil
end

--- Goes back to the beginning, for the second time.
-- @treturn boolean
-- @treturn ?string
function spool:rewind()
  self.file, self.copy = self.copy or self.file, nil
  self.left = self.size
  local there, why = self.file:seek("set", self.start)
  return there ~= nil, why
end

return M
