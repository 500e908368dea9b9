-- What the command prints is printable text, UTF-8 and strict JSON, whatever stands in rows, ids,
-- columns, names of files, options, settings and answers of the server; and no number that it was
-- given stands there whole.

local bed_support = require "spec.support.fault_bed"
local command = require "spec.support.command"
local faults = require "spec.support.faults"
local run = require "spec.support.run"

local step = faults.step

-- Every byte but NUL, which no argument can hold, and characters that steer a terminal.
local STEERING = { "\194\155", "\194\133", "\226\128\174", "\226\128\168", "\226\129\166",
  "\239\187\191",
  "\226\128\139", "\216\156", "\243\160\129\129", "\27]0;x\7", "\27[2J", "\r", "\n",
  "\r\nkoresms: forged" }

local everything = {}
for byte = 1, 255 do everything[#everything + 1] = string.char(byte) end
for _, one in ipairs(STEERING) do everything[#everything + 1] = one end

-- Of what takes a process each, every so many are looked at, or all.
local function few(every)
  return bed_support.long and 1 or every
end

-- The middle of numbers, which nothing for people may hold.
local TO, FROM, MIDDLES = "+91557340912178", "+19998265173021", { "73409121", "82651730" }

local SEPARATORS = { "\t", "\n", " ", "/", ".", "-", "\194\160", "\226\128\175", "\226\128\139",
  "\226\128\147", "_",
  ") ", "\0", "\27" }

describe("what is printed", function()
  local bed, work, server

  setup(function()
    bed = bed_support.start()
    work = run.directory()
    server = bed.servers.plain
  end)
  teardown(function()
    bed:stop()
    run.clean()
  end)
  before_each(function() server:script() end)

  local function environment(changes)
    local env = { KORESMS_HOST = server.origin, KORESMS_BOT_ID = "st-1", KORESMS_CLIENT_ID = "cs-1",
      KORESMS_CLIENT_SECRET = ("s"):rep(44), KORESMS_FROM = FROM, KORESMS_PER_MINUTE = "false",
      KORESMS_RETRIES = "0", KORESMS_TIMEOUT = "5" }
    for name, value in pairs(changes or {}) do env[name] = value or nil end
    return env
  end

  local printed = { text = {}, json = {} }

  -- Keeps a text, to be judged at the end with all others of its kind.
  local function judge(kind, text)
    table.insert(printed[kind], (text:gsub("\n?$", "\n")))
  end

  after_each(function()
    for kind, texts in pairs(printed) do
      run.write(work .. "/judged", table.concat(texts))
      printed[kind] = {}
      assert.equal("", run.output(("/usr/bin/python3 spec/support/printable.py %s <%s"):format(kind,
        run.quote(work .. "/judged"))))
    end
  end)

  local function without_middles(where, text)
    local bare = text:gsub("[^%d]", "")
    for _, middle in ipairs(MIDDLES) do
      assert(not text:find(middle, 1, true) and not bare:find(middle, 1, true),
        where .. ": " .. text)
    end
  end

  -- Runs it; looks at both streams. Returns them.
  local function look(arguments, env)
    local words, kind = { command.prefix(env or environment()), command.interpreter,
      "bin/koresms" }, "text"
    for _, word in ipairs(arguments) do
      words[#words + 1] = run.quote(word)
      if word == "--json" then kind = "json" end
    end
    os.execute(("unset LD_PRELOAD; %s >%s/out 2>%s/err </dev/null"):format(table.concat(words, " "),
      work, work))
    local out, err = command.read(work .. "/out"), command.read(work .. "/err")
    judge(kind, out)
    judge("text", err)
    assert(out ~= "" or err ~= "", table.concat(arguments, " "))
    return out, err
  end

  local function quoted(text) return '"' .. text:gsub('"', '""') .. '"' end

  -- One file with a row for each of `everything`.
  local function csv(header, row)
    local lines = { header }
    for _, one in ipairs(everything) do lines[#lines + 1] = row(one) end
    lines[#lines + 1] = row("\0")
    return run.write(work .. "/rows.csv", table.concat(lines, "\n") .. "\n")
  end

  local ways = { {}, { "--json" }, { "--skip-invalid" }, { "--skip-invalid", "--json" } }

  local function look_at_rows(path)
    for _, way in ipairs(ways) do
      local arguments = { "send-many", path }
      for _, word in ipairs(way) do arguments[#arguments + 1] = word end
      local _, err = look(arguments)
      without_middles("errors", err)
    end
  end

  it("of numbers with any byte", function()
    look_at_rows(csv("to,from", function(one) return quoted(TO:sub(1, 7) .. one .. TO:sub(8))
      .. "," end))
    look_at_rows(csv("to,from", function(one) return quoted("+9" .. one .. TO:sub(3)) .. "," end))
    look_at_rows(csv("to,from", function(one) return TO .. "," .. quoted(one .. FROM .. one) end))
    for place = 1, #everything, few(37) do
      local one = everything[place]
      for _, arguments in ipairs({ { "send", "--to", TO .. one }, { "send", "--to", TO, "--from",
        FROM .. one },
        { "send", "--to", one, "--dry-run" } }) do
        without_middles("a line", (look(arguments)))
        arguments[#arguments + 1] = "--json"
        look(arguments)
      end
    end
  end)

  it("of ids and other columns with any byte", function()
    look_at_rows(csv("to,id,other", function(one)
      return TO .. "," .. quoted("i" .. one .. "d") .. "," .. quoted(one)
    end))
    local lines = {}
    for byte = 0, 255 do
      local raw = byte >= 128 and "\194\155\226\128\174" or byte >= 32
        and string.char(byte):gsub('["\\]', "") or ""
      lines[#lines + 1] = ('{"to":"%s","id":"i\\u%04xd","k\\u%04x":"\\u%04x%s"}'):format(TO, byte,
        byte,
        0x2000 + byte, raw)
    end
    look_at_rows(run.write(work .. "/rows.jsonl", table.concat(lines, "\n")))
  end)

  it("of columns and keys whose names have any byte", function()
    for place = 1, #everything, few(19) do
      local name = everything[place]
      local rows = work .. "/rows.csv"
      look({ "send-many", run.write(rows, "to," .. quoted("n" .. name) .. "\n" .. TO .. ",x\n"),
        "--json" })
      look({ "send-many", run.write(rows, quoted("to" .. name) .. "\n" .. TO .. "\n") })
    end
    look_at_rows(csv("to", function(one) return quoted(TO) .. "," .. one end))
    look_at_rows(run.write(work .. "/rows.csv", TO .. "," .. FROM .. "\n"))
  end)

  it("of files, options and words with any byte", function()
    for place = 1, #everything, few(37) do
      local one = everything[place]
      local path = work .. "/f" .. one:gsub("/", "") .. "x"
      look({ "send-many", path })
      look({ "send-many", run.write(path, "to\n" .. TO .. "x\n") })
      look({ "send-many", path, "--rest", path })
      os.remove(path)
      for _, arguments in ipairs({ { one }, { "--" .. one }, { "send", one },
        { "send", "--" .. one .. "=" .. TO },
        { "help", one }, { "send-many", "x", "--concurrency", one }, { "send", "--to", TO,
          "--" .. TO } }) do
        local out, err = look(arguments)
        without_middles("words", out .. err)
      end
    end
  end)

  it("of settings and variables with any byte", function()
    for place = 1, #everything, few(53) do
      local one = everything[place]
      for name, value in pairs({ KORESMS_HOST = one .. "x", KORESMS_BOT_ID = "st" .. one,
        KORESMS_CLIENT_ID = "c" .. one,
        KORESMS_CONFIG = "/none" .. one .. ".json", KORESMS_FROM = FROM .. one,
        KORESMS_TIMEOUT = one,
        KORESMS_ALGORITHM = one, KORESMS_CA_FILE = "/none" .. one, KORESMS_CLIENT_SECRET = one
          .. one,
        KORESMS_CLIENT_SECRET_FILE = "/none" .. one, KORESMS_PROXY = one .. TO,
        KORESMS_SUBJECT = one }) do
        local env = environment { KORESMS_CLIENT_SECRET = name ~= "KORESMS_CLIENT_SECRET_FILE"
          and "ss" }
        env[name] = value
        local out, err = look({ "send", "--to", TO, "--dry-run" }, env)
        without_middles(name, out .. err)
      end
      if not one:find("=", 1, true) then
        look({ "check" }, environment { ["KORESMS_X" .. one] = TO, ["KORESMS_TIMEOU" .. one] = TO })
      end
    end
    for _, name in ipairs({ "st-\194\155[2J", "st-\226\128\174x" }) do
      look({ "check", "--json" }, environment { KORESMS_BOT_ID = name })
      look({ "check" }, environment { KORESMS_BOT_ID = name })
    end
  end)

  -- JSON of the platform's with a text as it is.
  local function answer(message, code)
    local body = '{"errors":[{"msg":"' .. message .. '","code":"' .. (code or 7) .. '"}]}'
    run.write(work .. "/body", body)
    server:script({}, { step.read_request(), step.respond { status = 400,
      body = { b64 = run.output("base64 -w0 <" .. work .. "/body") } } })
  end

  -- A message by the command and by the library, in every form in which a text may come out.
  local function look_at_answer()
    for _, arguments in ipairs({ { "send", "--to", TO }, { "send", "--to", TO, "--json" },
      { "check" },
      { "check", "--json" } }) do
      local out, err = look(arguments)
      -- Results for programs have the numbers of their message.
      out = out:gsub('"to":"[^"]*"', ""):gsub('"from":"[^"]*"', ""):gsub('"id":"[^"]*"', "")
        :gsub("id %x+", ""):gsub('"elapsed":[%d.]+', "")
      without_middles(arguments[1], out .. err)
    end
    local events = {}
    local client = bed:client(server.origin, { from = FROM,
      on_event = function(event) events[#events + 1] = event end })
    local _, text, _, result = client:send { to = TO }
    client:close()
    judge("text", text)
    judge("text", tostring(result.platform_message) .. tostring(result.platform_code))
    without_middles("a text", text .. tostring(result.platform_message)
      .. tostring(result.platform_code))
    for _, event in ipairs(events) do
      for name, value in pairs(event) do
        if name ~= "id" and name ~= "elapsed" then without_middles("an event", tostring(value)) end
      end
    end
  end

  it("of what the server says with any byte", function()
    for place = 1, #everything, 24 do
      local all = table.concat(everything, " ", place, math.min(#everything, place + 23))
      all = all:gsub('["\\]', "\\%0")
      answer(all, all)
      look_at_answer()
    end
    answer("\\u0000\\u001b[2J\\u009b\\u202e\\u2028\\ud83d\\ude00")
    look_at_answer()
  end)

  it("of numbers that the server repeats, with anything between their digits", function()
    for _, separator in ipairs(SEPARATORS) do
      separator = separator:gsub("[%z\1-\31]", function(c) return ("\\u%04x"):format(c:byte()) end)
      local function apart(number)
        return table.concat({ number:sub(1, 3), number:sub(4, 6), number:sub(7, 9),
          number:sub(10) }, separator)
      end
      answer(("to %s, (%s) %s"):format(apart(TO), apart(FROM:sub(2)), apart(TO:sub(2))),
        apart(FROM))
      look_at_answer()
    end
  end)

  it("of what a library says that quotes a certificate", function()
    local directory = bed.certs["ca.pem"]:match("^(.*)/")
    local name = "h\n\27[2J\194\155 " .. TO:sub(1, 3) .. " " .. TO:sub(4, 7) .. " " .. TO:sub(8)
    run.write(directory .. "/odd.cnf",
      "[req]\nprompt = no\ndistinguished_name = dn\nutf8 = yes\n[dn]\nCN = "
      .. name:gsub("\n", "\\n") .. "\n")
    run.output(("cd %s && openssl req -new -utf8 -key leaf.key -config odd.cnf -out odd.csr && "
      .. "openssl x509 -req "
      .. "-in odd.csr -CA ca.pem -CAkey ca.key -set_serial 7 -days 9 -out odd.pem "
      .. "2>&1"):format(run.quote(directory)))
    local odd = bed.bench:listen { tls = { cert = "odd" } }
    local env = environment { KORESMS_HOST = odd.origin, KORESMS_CA_FILE = bed.certs["ca.pem"] }
    for _, arguments in ipairs({ { "send", "--to", FROM }, { "check" }, { "check", "--json" } }) do
      local out, err = look(arguments, env)
      assert.matches("certificate", out .. err, 1, true)
      without_middles("a certificate", out .. err)
    end
    local client = bed:client(odd.origin, { from = FROM })
    local _, text = client:send { to = TO }
    client:close()
    assert.matches("certificate", text, 1, true)
    judge("text", text)
    without_middles("a certificate", text)
    odd:close()
  end)
end)
