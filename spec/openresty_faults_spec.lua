-- Every scenario of the fault bench, through a client inside nginx: the verdicts have to be
-- those that libcurl's transport comes to.
--
-- OPENRESTY=long plays every k of every sweep.

local paths = require "spec.support.paths"

-- nginx runs LuaJIT, so these need what was built for it; once is enough.
if paths.version ~= "jit" then return end

local expected = require "spec.support.fault_verdicts"
local faults = require "spec.support.faults"
local openresty = require "spec.support.openresty"

local step = faults.step

-- What nginx is told where libcurl is told something else, in addition to what the table has:
-- name, and k where there is one.
local TOLD_OTHERWISE = {
  -- A reset arrives with the end of connecting, and the kernel names that first.
  read_k_reset = "not_sent/connect", proxy_accept_reset = "not_sent/connect",
  -- Inside TLS nginx takes a reset for an end, and half a body is no JSON.
  close_delimited_k_reset = "unknown/bad_response",
  -- libcurl shows nobody what it skips.
  endless_slow_chunk_extension = "unknown/bad_response",
}

local long = os.getenv("OPENRESTY") == "long"

-- Seconds for a server that stalls, and for any other. Where all stall at once, a busy machine
-- takes a second to send all requests.
local STALL, ENOUGH = 2, 5

-- Each job has a client and a light thread of its own.
local SEND = [[
  local koresms = require "koresms"
  local function send(job)
    local client = assert(koresms.new(job.settings))
    local results = {}
    for index, to in ipairs(job.to) do
      -- Only the message at fault has little time.
      local accepted, _, _, failed = client:send({ to = to },
        { timeout = index ~= job.main and 5 or nil })
      results[index] = accepted or failed
      results[index].platform_code = nil -- no JSON could tell all of them
      ngx.sleep(0.1) -- the server's FIN, where there is one, has come
    end
    client:close()
    return results
  end
  local threads, all = {}, {}
  for index, job in ipairs(given) do threads[index] = ngx.thread.spawn(send, job) end
  for index, thread in ipairs(threads) do
    local ok, results = ngx.thread.wait(thread)
    all[index] = ok and results or { { outcome = "raised", message = tostring(results) } }
  end
  return all ]]

-- Where nothing reaches a server: each gives the result of one send.
local ENDINGS = [[
  local koresms = require "koresms"
  local function ending(changes, message, before)
    local settings = { host = given.origin, bot_id = "st-1", token = "t.o.k", from = "+19876543210",
      per_minute = false, retries = 0, timeout = 0.5 }
    for name, value in pairs(changes) do settings[name] = value end
    local client = assert(koresms.new(settings))
    if before then before(client) end
    local accepted, _, _, failed = client:send(message or { to = "+911234567890" })
    client:close()
    return accepted or failed
  end
  return {
    invalid_number = ending({}, { to = "911234567890" }),
    sign = ending { token = function() error("no") end },
    rate_limited = ending({ per_minute = 1 }, nil, function(c) assert(c:send { to = "+912" }) end),
    cancelled = ending({}, nil, function(c) c:close() end),
    dns = ending { host = "https://nonexistent.invalid" },
    connect = ending { host = "http://127.0.0.1:1" },
    config = select(4, koresms.send { to = "+911234567890" }),
    context = in_init,
  } ]]

-- What a send comes to where nginx has no network yet.
local INIT = [[
  local client = assert(require("koresms").new { host = "http://127.0.0.1:1", bot_id = "st-1",
    token = "t.o.k", from = "+19876543210" })
  in_init = select(4, client:send { to = "+911234567890" }) ]]

describe("every fault told honestly inside nginx:", function()
  local bench, server, certs, serial = nil, nil, nil, 0
  local came = {} -- endings, as text

  setup(function()
    bench = faults.start()
    certs = bench:certs()
    server = openresty.start { ca = certs["ca.pem"], init = INIT }
  end)

  teardown(function()
    local log = server and server:log()
    if server then server:stop() end
    if bench then bench:stop() end
    assert.equal("", log)
  end)

  local function number()
    serial = serial + 1
    return ("+91%010d"):format(serial)
  end

  local function request_bytes()
    local plain = bench:listen()
    local to = number()
    server:run(SEND, { { to = { to }, settings = { host = plain.origin, bot_id = "st-1",
      client_id = "cs-1", client_secret = "secret", from = "+19876543210" } } })
    return plain:stats({ settle = 2, requests = true }).requests[1].bytes
  end

  -- A job for one case: what the client is told, and the listeners.
  local function prepare(row, k, over)
    local case = { row = row, k = k, over = over, to = { row.kept and number() or nil } }
    local proxied = row.group == "proxy"
    local script = row.answers and row.group ~= "proxy" and faults.script(row, { k = k or nil })
    if script then
      -- An answered connection goes on as one of a server that is well.
      script = { (table.unpack or unpack)(script) }
      script[#script + 1] = step.serve()
    end
    local options = { connections = script and { script } or nil,
      tls = over == "tls" and not row.listen and {} or nil }
    local hop = bench:listen_for(row, { k = k or nil }, options)
    case.server = proxied and bench:listen { tls = over == "tls" and {} or nil } or hop
    case.hop = hop
    local origin = case.server.origin
    -- nginx compares a certificate with names only.
    if case.server.scheme == "https" then origin = "https://localhost:" .. case.server.port end
    case.to[#case.to + 1] = number()
    -- Where the listener itself is at fault, there is no sound one to come back to; and who was
    -- throttled waits.
    if not proxied and not row.listen and row.group ~= "throttled" then
      case.to[#case.to + 1] = number()
    end
    case.main = row.kept and 2 or 1
    case.settings = { host = origin, bot_id = "st-1", client_id = "cs-1", client_secret = "secret",
      from = "+19876543210", per_minute = false, retries = 0,
      timeout = row.stalls and STALL or ENOUGH,
      client_cert = certs[row.client_cert], client_key = certs[row.client_key],
      proxy = proxied and hop.origin or nil }
    return case
  end

  local function judge(case, results, whole)
    local row = case.row
    local name = ("%s%s (%s)"):format(row.name, case.k and " at " .. case.k or "", case.over)
    local result = results[case.main] or results[1]
    local got = result.outcome .. (result.code and "/" .. result.code or "")
    came[got] = true
    assert.equal(expected.contract[result.outcome][result.code] or false, result.retryable,
      name .. ": retryable")
    local set = expected.of(row, case.k, case.over, whole)
    local wanted = {}
    local otherwise = TOLD_OTHERWISE[row.name]
    if otherwise and not (otherwise == "not_sent/connect" and (case.k or 0) > 0) then
      set[otherwise] = true
    end
    -- nginx has the same words for what the server refused and for what the network cut.
    if set["not_sent/tls"] and (result.message or ""):find("handshake failed", 1, true) then
      set["not_sent/tls"], set["not_sent/connect"] = nil, true
    end
    for one in pairs(set) do wanted[#wanted + 1] = one end
    assert(set[got], ("%s: got %s, not %s: %s"):format(name, got, table.concat(wanted, " or "),
      result.message or ""))
    local seen = case.server:stats { settle = 2 }
    for index, to in ipairs(case.to) do
      local processed, one = seen.to[to] or 0, results[index]
      assert(processed <= one.attempts, name .. ": processed more often than it was attempted")
      assert(one.attempts <= 1, name .. ": sent twice")
      assert((one.outcome == "not_sent") == (one.attempts == 0), name .. ": attempts")
      if one.outcome == "not_sent" then assert(processed == 0, name .. ": sent after all") end
    end
    local after = results[case.main + 1]
    if after then
      assert(after.outcome == "accepted", ("%s: then %s: %s"):format(name, after.outcome,
        after.message or ""))
      if result.outcome == "unknown" and not result.status then
        assert(case.hop:stats().accepted == 2, name .. ": a broken connection was used again")
      end
    end
    case.hop:close()
    if case.server ~= case.hop then case.server:close() end
  end

  -- The k of a sweep that are played: the ends, and some between; or all.
  local function ks(row, bytes)
    if not row.sweep then return { false } end
    local list, last = {}, faults.last_k(row, bytes)
    for i = 0, long and last or 4 do
      list[#list + 1] = long and i or math.floor(last * i / 4)
    end
    return list, last + 1
  end

  local rows = {}
  for _, source in ipairs { faults.list, expected.more } do
    for _, row in ipairs(source) do
      rows[row.group] = rows[row.group] or {}
      table.insert(rows[row.group], row)
    end
  end

  -- Plays some cases at once.
  local function play_some(cases)
    local jobs, played = {}, {}
    for index, case in ipairs(cases) do
      played[index] = prepare(case.row, case.k, case.over)
      jobs[index] = { settings = played[index].settings, to = played[index].to,
        main = played[index].main }
    end
    for index, results in ipairs(server:run(SEND, jobs)) do
      judge(played[index], results, cases[index].whole)
    end
  end

  local AT_ONCE = 150
  local bytes

  local function play(list, ways)
    bytes = bytes or request_bytes()
    local cases = {}
    for _, row in ipairs(list) do
      local some, whole = ks(row, bytes)
      for _, k in ipairs(some) do
        for _, over in ipairs(ways) do
          cases[#cases + 1] = { row = row, k = k, over = over, whole = whole }
          if #cases == AT_ONCE then
            play_some(cases)
            cases = {}
          end
        end
      end
    end
    play_some(cases)
  end

  for group, list in pairs(rows) do
    -- A row of these has its own listener, which is what it is.
    local own = group == "tls" or group == "connect"
    if group ~= "h2" then
      it(group, function() play(list, own and { "plain" } or { "plain", "tls" }) end)
    end
  end

  it("what reaches no server", function()
    local listener = bench:listen()
    for code, result in pairs(server:run(ENDINGS, { origin = listener.origin })) do
      local name = "not_sent/" .. code
      assert.same({ name, 0, expected.contract.not_sent[code] },
        { result.outcome .. "/" .. result.code, result.attempts, result.retryable }, name)
      came[name] = true
    end
    listener:close()
  end)

  it("has a case for each code of the contract", function()
    for outcome, codes in pairs(expected.contract) do
      for code in pairs(codes) do
        assert(came[outcome .. "/" .. code], "no case ends in " .. outcome .. "/" .. code)
      end
    end
    assert(came.accepted)
  end)
end)
