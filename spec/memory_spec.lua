-- Memory: each function of the C modules with an allocator that fails at the n-th request, for
-- every n, and with whole collections at every step whose finalizers use the same objects. The
-- passes run in an interpreter of their own, built with sanitizers (see support/lua_host.c);
-- here stands which rows there are, and what became of each.
--
-- MEMORY=long plays every n where a row has thousands, of which else one in some is played.

local paths = require "spec.support.paths"
local rows = require "spec.support.memory.rows"
local run = require "spec.support.run"

local build = os.getenv("KSMS_BUILD") or "build"
local directory = build .. "/memory"
local HOST = directory .. "/" .. paths.version .. "/lua_host"

-- Runs a pass over a module. Leaves the report of each row, and whatever else was said.
local function report_of(pass, module)
  local reports, rest = {}, {}
  local command = ("exec 2>&1; KSMS_BUILD=%s timeout -k 5 600 %s spec/support/memory/%s.lua %s; "
    .. "echo exit $?"):format(run.quote(directory), run.quote(HOST), pass, module)
  for line in run.output(command):gmatch("[^\n]+") do
    local how, name, text = line:match("^(%l+)\t([^\t]+)\t(.*)$")
    if how == "ok" or how == "failed" then
      local failed = how == "failed" and text or nil
      reports[name] = reports[name] or failed or "ok"
      if failed then reports[name] = failed end
    else
      rest[#rest + 1] = line
    end
  end
  return reports, table.concat(rest, "\n")
end

describe("memory", function()
  it("has a row for each function of the C modules and each method of their classes", function()
    assert.same({}, rows.missing())
  end)

  it("that held a secret is wiped before it is given back", function()
    assert.equal("0 unwiped\n", run.output(("KSMS_BUILD=%s %s spec/support/memory/wiping.lua 2>&1")
      :format(run.quote(directory), run.quote(HOST))))
  end)

  for pass, title in pairs { failing = "that fails", collecting = "that is collected" } do
    for _, module in ipairs(rows.parts) do
      describe(title .. ", in " .. module, function()
        local reports, rest
        setup(function() reports, rest = report_of(pass, module) end)

        for _, name in ipairs(rows.names(module)) do
          it("leaves all whole: " .. name, function()
            local report = reports[name] or "not run: " .. rest
            if report:find("PostgreSQL is not installed", 1, true) then return pending(report) end
            assert.equal("ok", report)
          end)
        end

        it("lets the sanitizers say nothing", function() assert.equal("exit 0", rest) end)
      end)
    end
  end
end)
