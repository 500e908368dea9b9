-- Lets the specs find the tree's own modules, from the repository's root: Lua files in
-- lua/, the C modules of the running Lua in build/, and koresms.sandbox.* in sandbox/.

local build = os.getenv("KSMS_BUILD") or "build"
local version = rawget(_G, "jit") and "jit" or _VERSION:match("%d+%.%d+")

local M = {
  version = version,
  path = "lua/?.lua;lua/?/init.lua;" .. package.path,
  cpath = build .. "/" .. version .. "/?.so;" .. package.cpath,
}

package.path, package.cpath = M.path, M.cpath

local function sandbox_file(name)
  if name == "koresms.sandbox" then return "sandbox/init.lua" end
  local rest = name:match("^koresms%.sandbox%.(.+)$")
  return rest and "sandbox/" .. rest:gsub("%.", "/") .. ".lua"
end

-- Before the searchers of files, so that an installed koresms is never taken instead.
table.insert(package.searchers or package.loaders, 2, function(name)
  local file = sandbox_file(name)
  if not file then return nil end
  return assert(loadfile(file)), file
end)

return M
