--- Small helpers for specs: files, processes, text.
local M = {}

function M.quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- Runs a shell command; returns its standard output.
function M.output(command)
  -- A sanitizer that is preloaded into this Lua is not meant for other programs.
  local pipe = assert(io.popen("unset LD_PRELOAD; " .. command, "r"))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

--- The shell assignment that a Lua needs which is to load our modules, where they are built
-- with sanitizers.
function M.preload()
  return "LD_PRELOAD=" .. M.quote(os.getenv("LD_PRELOAD") or "")
end

--- Writes a file; returns its name.
function M.write(name, text)
  local file = assert(io.open(name, "wb"))
  file:write(text)
  file:close()
  return name
end

--- A directory that `M.clean` removes.
local directories = {}
function M.directory()
  local name = M.output("mktemp -d"):gsub("\n", "")
  directories[#directories + 1] = name
  return name
end

function M.clean()
  for _, name in ipairs(directories) do os.execute("rm -rf " .. M.quote(name)) end
  directories = {}
end

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

--- Decodes base64url without padding.
function M.unbase64url(text)
  local out, bits, count = {}, 0, 0
  for c in text:gmatch(".") do
    bits = bits * 64 + assert(DIGITS:find(c, 1, true)) - 1
    count = count + 6
    if count >= 8 then
      count = count - 8
      local unit = 2 ^ count
      out[#out + 1] = string.char(math.floor(bits / unit))
      bits = bits % unit
    end
  end
  return table.concat(out)
end

return M
