--- Rows to be looked at later, in a file like the one that they came from.
local core = require "koresms.core"

local M = {}

local leftover = {}
leftover.__index = leftover

local EXISTS = "it exists; %s takes the name of a new file"

--- What keeps a file from being made: it must not exist, for it might be the input, or the
-- rest of another run, whose rows have been sent meanwhile.
-- @tparam string option that names the file
-- @tparam string path
-- @treturn ?string
function M.fault(option, path)
  if path == "-" then
    return option .. ": standard output has the results; give the name of a new file "
      .. "(./- for one called -)"
  end
  return core.file_mode(path) and ("%s: %s"):format(path, EXISTS:format(option)) or nil
end

--- Makes the file, for its owner alone.
-- @tparam string option
-- @tparam string path
-- @tparam string heading what stands before the first row
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] string
function M.create(option, path, heading)
  local fault = M.fault(option, path)
  if fault then return nil, fault end
  local file, why, exists = core.create_file(path)
  if not file then return nil, ("%s: %s"):format(path, exists and EXISTS:format(option) or why) end
  return setmetatable({ path = path, file = file, count = 0, heading = heading,
    ending = heading:find("\r\n$") and "\r\n" or "\n" }, leftover)
end

local function write(self, text)
  local ok, why = self.file:write(text)
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
  local ok, why = self.file:close()
  self.fault = self.fault or not ok and why or nil
  if self.count == 0 then os.remove(self.path) end
  return self.fault
end

return M
