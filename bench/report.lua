-- Turns samples into the table: medians with their range, and ratios to a group's first row.
local machine = require "machine"

local M = {}

-- The notes under the table, in the terminal and in the file.
local NOTES = {
  "CPU is user and system time of the client's processes, from their start to their end, by",
  "message; the server's is not in it. MB is the largest process. Figures are medians of the",
  "rounds, with the smallest and the largest. A ratio (x) is the median of the rounds' ratios to",
  "the group's first row in the same round. Rows of a group take turns, round by round.",
}

local function median(list)
  table.sort(list)
  local middle = math.floor((#list + 1) / 2)
  return #list % 2 == 1 and list[middle] or (list[middle] + list[middle + 1]) / 2
end

-- Median, least and most of a figure over a row's samples; nil where there is none.
local function range(row, field)
  local list = {}
  for _, sample in ipairs(row.samples) do list[#list + 1] = sample[field] end
  if #list == 0 then return nil end
  return median(list), list[1], list[#list]
end

local function ratio(row, reference, field)
  if not row.samples or not reference.samples or row == reference then return nil end
  local list = {}
  for i, sample in ipairs(row.samples) do list[i] = sample[field] / reference.samples[i][field] end
  return median(list)
end

-- A whole number, grouped in thousands.
local function whole(x)
  local text = ("%.0f"):format(x):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (text:gsub("^,", ""))
end

-- The digits that mean something: 3 of them.
local function figure(x)
  if not x then return "" end
  if x < 0.1 then return ("%.3f"):format(x) end
  if x < 10 then return ("%.2f"):format(x) end
  if x < 100 then return ("%.1f"):format(x) end
  return whole(x)
end

local function spread(row, field)
  local middle, least, most = range(row, field)
  if not middle then return "" end
  if least == most then return figure(middle) end
  return ("%s (%s-%s)"):format(figure(middle), figure(least), figure(most))
end

-- What a goal is called, how it is reached, and which of a row's values it bounds.
local GOALS = {
  { "cpu_most", "CPU <= %s x", function(v) return v.cpu_ratio end, true },
  { "cpu_least", "CPU >= %s x", function(v) return v.cpu_ratio end, false },
  { "rate_least", "msg/s >= %s x", function(v) return v.rate_ratio end, false },
  { "peak_most", "< %s MB", function(v) return v.peak end, true },
  { "growth_most", "grows < %s MB", function(v) return v.growth end, true },
}

local function judge(row, values)
  local list = {}
  for _, goal in ipairs(GOALS) do
    local bound, value = row.goal and row.goal[goal[1]], goal[3](values)
    if bound and value then
      local reached = value >= bound
      if goal[4] then reached = value <= bound end
      list[#list + 1] = goal[2]:format(figure(bound)) .. (reached and " ok" or " MISSED")
    end
  end
  return table.concat(list, ", ")
end

-- Resident memory along the way, as one text, and how much it grew after the first mark.
local function along(row)
  local rss = row.samples[1].rss
  if not rss or #rss == 0 then return nil end
  local list = {}
  for i, mark in ipairs(rss) do
    list[i] = ("%.1f MB after %s"):format(mark[2], whole(mark[1]))
  end
  return "resident: " .. table.concat(list, ", "), rss[#rss][2] - rss[1][2]
end

local HEAD = { "", "signs", "at once", "messages", "CPU us/msg", "msg/s", "MB", "CPU x", "msg/s x",
  "goal" }

-- The cells of a row, and a text to put under it.
local function cells(row, reference)
  local n = row.samples and row.samples[1].n or row.n
  local list = { row.name, row.signs or "no", row.c or "", n and whole(n) or "" }
  if row.speed then list[2] = "RS256" end
  if not row.samples then
    list[5] = row.missing
    for i = 6, #HEAD do list[i] = "" end
    return list
  end
  local cpu, rate = ratio(row, reference, "cpu"), ratio(row, reference, "rate")
  local text, growth = along(row)
  list[5], list[6], list[7] = spread(row, "cpu"), spread(row, "rate"), figure(range(row, "peak"))
  list[8], list[9] = figure(cpu), figure(rate)
  list[10] = judge(row, { cpu_ratio = cpu, rate_ratio = rate, peak = range(row, "peak"),
    growth = growth })
  return list, text
end

local WIDTHS = { 36, -10, 7, 9, 22, 27, 6, 6, 7, -1 }

local function line(list, missing)
  local out = {}
  for i, width in ipairs(WIDTHS) do
    local cell = tostring(list[i])
    local pad = (" "):rep(math.abs(width) - #cell)
    local left = i == 1 or width < 0 or missing and i == 5
    out[i] = left and cell .. pad or pad .. cell
  end
  return (table.concat(out, "  "):gsub("%s+$", ""))
end

--- Prints the table.
function M.print(groups, ctx)
  print(line(HEAD))
  for _, group in ipairs(groups) do
    print("\n" .. group.title)
    for _, row in ipairs(group.rows) do
      local list, text = cells(row, group.rows[1])
      print(line(list, not row.samples))
      if text then print("  " .. text) end
    end
  end
  print("\n" .. table.concat(NOTES, "\n") .. ("\nRounds: %d.\n"):format(ctx.rounds))
  for _, fact in ipairs(machine.facts(ctx)) do print(("%-12s%s"):format(fact[1], fact[2])) end
end

local function row_of(list)
  return "| " .. table.concat(list, " | ") .. " |\n"
end

--- Writes the table and the machine as Markdown.
function M.write(path, groups, ctx)
  local file = assert(io.open(path, "w"))
  file:write("# Results of `make bench`\n\n",
    ("Written by `make bench RESULTS=1%s`, %d rounds; do not edit.\n\n"):format(ctx.how,
      ctx.rounds),
    "One run, one server: nginx, one process on loopback that gives the documented answer (for\n",
    "the memory rows, the sandbox). Client and server share the machine below, so compare rows\n",
    "with each other.\n\n", table.concat(NOTES, "\n"), "\n\n| machine | |\n| --- | --- |\n")
  for _, fact in ipairs(machine.facts(ctx)) do file:write(row_of(fact)) end
  for _, group in ipairs(groups) do
    file:write("\n## ", group.title, "\n\n", row_of(HEAD),
      "| --- | --- |", (" ---: |"):rep(7), " --- |\n")
    local texts = {}
    for _, row in ipairs(group.rows) do
      local list, text = cells(row, group.rows[1])
      file:write(row_of(list))
      if text then texts[#texts + 1] = ("\n%s, %s.\n"):format(row.name, text) end
    end
    file:write(table.concat(texts))
  end
  file:close()
end

return M
