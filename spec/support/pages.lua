-- What the pages for people hold: blocks of code, links and anchors.

local shell = require "koresms.sandbox.shell"

local M = {}

-- What is not code.
local TEXT = { [""] = true, text = true }

local function lines_of(command)
  local _, text = shell.run(command)
  local list = {}
  for line in text:gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

--- The pages whose blocks are run, by their paths.
function M.with_code()
  return lines_of("ls README.md docs/*.md")
end

--- All pages.
function M.all()
  return lines_of("find . -name '*.md' -not -path './build*' -not -path './.git/*' | sort")
end

local PRINTS = "<!-- prints -->"

--- The blocks of code of a page.
-- @tparam string path
-- @treturn {table,...} the lines of each; `language`, `line` (where it begins), `reason`, where it
--   says why it is not run, and `prints`, where it is said what it prints: the lines
function M.blocks(path)
  local list, block, reason, prints, number = {}, nil, nil, false, 0
  for line in io.lines(path) do
    number = number + 1
    local fence = line:match("^```(.*)$")
    if block and fence then
      if not TEXT[block.language] then
        list[#list + 1] = block
      elseif block.is_output then
        list[#list].prints = block
      end
      block = nil
    elseif block then
      block[#block + 1] = line
    elseif fence then
      block = { language = fence, reason = reason, line = number, page = path,
        is_output = prints }
    end
    prints = line == PRINTS
    reason = line:match("^<!%-%- not run: (.-) %-%->$")
  end
  return list
end

-- A page without its blocks, as a list of lines.
local function prose(path)
  local list, inside = {}, false
  for line in io.lines(path) do
    if line:find("^```") then
      inside = not inside
    elseif not inside then
      list[#list + 1] = line
    end
  end
  return list
end

-- The anchors of a page's headings, as forges make them.
local function anchors(path)
  local set = {}
  for _, line in ipairs(prose(path)) do
    local title = line:match("^#+ +(.-)%s*$")
    if title then set[title:lower():gsub("[^%w %-_]", ""):gsub(" ", "-")] = true end
  end
  return set
end

local function exists(path)
  return (shell.run("[ -e " .. shell.quote(path) .. " ]"))
end

--- Links of a page to what is not there, within this repository.
-- @tparam string path
-- @treturn {string,...}
function M.dead_links(path)
  local dead = {}
  local directory = path:match("^(.*/)") or ""
  for target in table.concat(prose(path), "\n"):gsub("`[^`\n]*`", ""):gmatch("%]%(([^)%s]+)%)") do
    local file, anchor = target:match("^([^#]*)#?(.*)$")
    local there = file == "" and path or directory .. file
    local good = target:find("^https?://") or exists(there)
      and (anchor == "" or there:find("%.md$") and anchors(there)[anchor])
    if not good then dead[#dead + 1] = target end
  end
  return dead
end

return M
