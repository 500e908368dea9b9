--- The rows that can be sent later, in a file like the one that they came from.
local checked_io = require "koresms.cli.checked_io"

local M = {}

local leftover = {}
leftover.__index = leftover

--- What keeps a file from being made: it must not exist, for it might be the input, or the
-- rest of another run, whose rows have been sent meanwhile.
-- @tparam string path
-- @treturn ?string
function M.fault(path)
  local there = io.open(path, "rb")
  if not there then return nil end
  there:close()
  return path .. ": it exists; --rest takes the name of a new file"
end

--- Makes the file.
-- @tparam string path
-- @tparam string heading what stands before the first row
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
function M.create(path, heading)
  local fault = M.fault(path)
  if fault then return nil, fault end
  local file, why = io.open(path, "wb")
  if not file then return nil, why end
  return setmetatable({ path = path, file = file, count = 0, heading = heading,
    ending = heading:find("\r\n$") and "\r\n" or "\n" }, leftover)
end

local function write(self, text)
  local ok, why = checked_io.write(self.file, text)
  self.fault = self.fault or not ok and why or nil
end

--- Adds a row as it came.
function leftover:add(text)
  if self.count == 0 then write(self, self.heading) end
  self.count = self.count + 1
  -- The last row of a file may have no end.
  write(self, text:find("\n$") and text or text .. self.ending)
end

--- Closes the file; without rows it is removed.
-- @treturn ?string why it could not be written
function leftover:close()
  local ok, why = checked_io.close(self.file)
  self.fault = self.fault or not ok and why or nil
  if self.count == 0 then os.remove(self.path) end
  return self.fault
end

return M
