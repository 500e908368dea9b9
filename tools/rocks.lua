-- Prints a release rockspec: lua tools/rocks.lua ROCKSPEC VERSION URL
local path, version, url = ...

local file = assert(io.open(path))
local text = file:read("*a")
file:close()

local function replace(pattern, by)
  local count
  text, count = text:gsub(pattern, function() return by end)
  assert(count == 1, pattern)
end

replace('version = "scm%-1"', ('version = "%s-1"'):format(version))
replace('%-%- The tree that holds this file: `luarocks make` fetches nothing%.\nsource = %b{}',
  ('source = { url = "%s/koresms-%s.tar.gz", dir = "koresms-%s" }'):format(url, version, version))
io.write(text)
