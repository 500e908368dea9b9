-- The sandbox's page, in a real browser: with the mouse, with the keyboard alone, and looked at
-- by axe-core, in light and dark, wide and narrow.

require "spec.support.paths"

local browser = require "spec.support.browser"
local sandbox = require "koresms.sandbox"
local shell = require "koresms.sandbox.shell"

local AXE = "axe-core@4.10.3"
local TO = "+911234567890"

-- The lines of the list that can be seen, as text.
local LINES = [[return [...document.querySelectorAll("#entries > li:not([hidden]) summary")]
  .map((line) => [...line.children].slice(1, 4).map((part) => part.textContent).join(" "))]]

local FIRST_LINE = [[const line = document.querySelector("#entries > li:not([hidden]) summary");
  return line && line.textContent.includes(arguments[0])
    && line.textContent.includes(arguments[1])]]

-- The library as text, or nil and why not. It is fetched once, for tests only.
local function axe()
  local build = os.getenv("KSMS_BUILD") or "build"
  local directory = build .. "/axe"
  local path = directory .. "/node_modules/axe-core/axe.min.js"
  if not shell.run("[ -s " .. shell.quote(path) .. " ]") then
    if not shell.run("command -v npm") then
      return nil, "npm is not installed, which fetches " .. AXE
    end
    local ok, text = shell.run(("npm install --no-save --no-package-lock --no-audit --no-fund "
      .. "--ignore-scripts --fetch-retries=1 --fetch-timeout=20000 --prefix %s %s 2>&1"):format(
      shell.quote(directory), AXE))
    if not ok then return nil, AXE .. " cannot be fetched: " .. (text:match("[^\n]+") or "") end
  end
  local file = assert(io.open(path))
  local source = file:read("*a")
  file:close()
  return source
end

local RUN_AXE = [[return axe.run({
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] })
  .then(({ violations }) => violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(" ")}`))]]

describe("the sandbox's page", function()
  local missing = browser.missing()
  if missing then
    it("is driven by Chromium", function() pending(missing) end)
    return
  end

  local box, page

  setup(function()
    box = assert(sandbox.start())
    page = browser.start()
  end)

  teardown(function()
    if page then page:stop() end
    box:stop()
  end)

  local function open(width, height, scheme)
    page:look(width or 1280, height or 900, scheme or "light")
    page:open(box.plain .. "/")
    page:await("return document.getElementById('link').dataset.state === 'live'")
  end

  before_each(function()
    assert(box:control("DELETE", "state"))
    open()
  end)

  -- A client of its own language: curl, with what koresms signs.
  local function send(to)
    local words = {}
    for i, pair in ipairs(box.env) do words[i] = pair[1] .. "=" .. shell.quote(pair[2]) end
    local interpreter = rawget(_G, "jit") and "luajit" or "lua" .. _VERSION:match("%d%.%d")
    shell.run(("env %s KORESMS_RETRIES=0 KORESMS_TIMEOUT=1 %s bin/koresms send --to %s "
      .. "2>&1"):format(
      table.concat(words, " "), interpreter, to))
  end

  it("says how to send while nothing was sent, and then no more", function()
    assert.is_true(page:run("return !document.getElementById('empty').hidden"))
    assert.matches("koresms send --to",
      page:run("return document.getElementById('empty').textContent"), 1, true)
    page:click "#first"
    page:await(FIRST_LINE, "Accepted", TO)
    assert.is_true(page:run("return document.getElementById('empty').hidden"))
  end)

  it("shows what arrives at once, newest first, and filters it", function()
    send(TO)
    page:await(FIRST_LINE, "Accepted", TO)
    send "+15005550401"
    page:await(FIRST_LINE, "401", "+15005550401")
    send "+15005551001"
    page:await(FIRST_LINE, "closed", "+15005551001")
    assert.same({ "Unknown closed +15005551001", "Rejected 401 +15005550401",
      "Accepted 200 " .. TO },
      page:run(LINES))
    page:click "#outcomes label:nth-of-type(3)"
    assert.same({ "Rejected 401 +15005550401" }, page:run(LINES))
    page:click "#outcomes label:nth-of-type(1)"
    page:click "#number"
    page:press "500 555-1"
    assert.same({ "Unknown closed +15005551001" }, page:run(LINES))
    -- What arrives meanwhile is filtered, too.
    send(TO)
    page:await "return document.querySelector('[data-count=\"\"]').textContent === '4'"
    assert.same({ "Unknown closed +15005551001" }, page:run(LINES))
    page:press "9"
    assert.is_true(page:run "return !document.getElementById('none').hidden")
    page:click "#unfilter"
    assert.equal(4, #page:run(LINES))
  end)

  it("opens a request: headers, body, the token and its checks, the reply", function()
    send(TO)
    page:await(FIRST_LINE, "Accepted", TO)
    page:click "#entries summary"
    local text = page:await("return document.querySelector('.parts')?.innerText")
    for _, part in ipairs { "Request", "outboundsms", '"toNo": "' .. TO .. '"',
      "HS256, made with the client secret",
      '"appId": "' .. box.client_id .. '"', "The message was processed.", "HTTP 200",
      "Triggered" } do
      assert.matches(part, text, 1, true)
    end
    assert.is_nil(text:find(box.client_secret, 1, true))
  end)

  it("makes the next request fail with a button for each failure", function()
    local count = page:run "return document.querySelectorAll('#plays button').length"
    assert.is_true(count >= 10)
    for n = 1, count do
      page:click(("#plays li:nth-child(%d) button"):format(n))
      page:await("return document.querySelectorAll('#waiting-list li').length === arguments[0]", n)
    end
    assert.equal(count, box:get("play").plays)
    page:click "#clear-plays"
    page:await "return document.getElementById('waiting').hidden"
    page:click "#plays li:nth-child(6) button"
    page:await "return !document.getElementById('waiting').hidden"
    send(TO)
    page:await(FIRST_LINE, "503", "played: status 503")
    page:await "return document.getElementById('waiting').hidden"
  end)

  it("changes the settings, and shows the last minute against the limit", function()
    page:click "#per_minute"
    page:press("2" .. browser.keys.tab)
    for _ = 1, 50 do
      if box:get("settings").per_minute == 2 then break end
      os.execute("sleep 0.1")
    end
    for _ = 1, 3 do send(TO) end
    page:await(FIRST_LINE, "429", "rate limit")
    page:await "return document.querySelector('.minute').innerText.includes('2 of 2 permitted')"
    page:click "#scope"
    page:await "return true"
    for _ = 1, 50 do
      if box:get("settings").scope == false then break end
      os.execute("sleep 0.1")
    end
    assert.is_false(box:get("settings").scope)
    page:click "#reset-settings"
    page:await("return document.getElementById('scope').checked "
      .. "&& !document.getElementById('per_minute').value")
  end)

  it("is used with the keyboard alone", function()
    local keys = browser.keys
    -- Send.
    page:tab_to "at.id === 'to'"
    page:press(keys.enter)
    page:await(FIRST_LINE, "Accepted", TO)
    -- The next one fails, and is seen to.
    page:tab_to "at.textContent.includes('server error')"
    page:press(keys.enter)
    page:await "return !document.getElementById('waiting').hidden"
    page:tab_to("at.id === 'to'", keys.shift .. keys.tab)
    page:press(keys.control .. "a")
    page:press("+447700900123" .. keys.enter)
    page:await(FIRST_LINE, "500", "+447700900123")
    -- Filter by outcome, with the arrows, and by number.
    page:tab_to "at.id === 'number'"
    page:press "4477"
    assert.equal(1, #page:run(LINES))
    page:press(keys.tab)
    page:press(keys.right .. keys.right .. keys.right)
    assert.equal("unknown",
      page:run "return document.querySelector('[name=outcome]:checked').value")
    assert.same({ "Unknown 500 +447700900123" }, page:run(LINES))
    -- Open it, and close it.
    page:tab_to "at.matches('#entries summary')"
    page:press(keys.enter)
    page:await("return document.activeElement.parentElement.open "
      .. "&& document.querySelector('.parts')")
    page:press(keys.space)
    page:await "return !document.activeElement.parentElement.open"
    -- From line to line.
    page:run [[const filters = document.getElementById("filters");
      filters.reset();
      filters.dispatchEvent(new Event("input"))]]
    page:press(keys.down)
    assert.is_true(page:run("return document.activeElement.textContent.includes(arguments[0])", TO))
    page:press(keys.up)
    assert.is_true(page:run "return document.activeElement.textContent.includes('+447700900123')")
  end)

  it("shows where the focus is, and says what happens to who listens", function()
    page:tab_to "at.id === 'to'"
    local outline = page:run "return getComputedStyle(document.activeElement).outlineStyle"
    assert.equal("solid", outline)
    send(TO)
    page:await("return document.getElementById('said').textContent.includes(arguments[0])",
      "Accepted, 200, " .. TO)
  end)

  it("begins anew when the log is cleared, or the sandbox is started again", function()
    send(TO)
    page:await(FIRST_LINE, "Accepted", TO)
    page:click "#clear"
    page:await "return !document.getElementById('empty').hidden"
    send "+15005550500"
    page:await(FIRST_LINE, "500", "+15005550500")

    local first = assert(sandbox.start { client_secret = box.client_secret })
    local again = { port = first.port, plain_port = first.plain_port }
    page:open(first.plain .. "/")
    assert(first:control("POST", "messages", { to = TO }))
    page:await(FIRST_LINE, "Accepted", TO)
    first:stop()
    page:await "return document.getElementById('link').dataset.state === 'lost'"
    local second = assert(sandbox.start(again))
    finally(function() second:stop() end)
    page:await "return document.getElementById('link').dataset.state === 'live'"
    page:await "return !document.getElementById('empty').hidden"
    assert(second:control("POST", "messages", { to = "+15005550418" }))
    page:await(FIRST_LINE, "418", "+15005550418")
  end)

  it("cannot be driven by a page from elsewhere, nor by one whose name leads here", function()
    -- What a page at this address gets when it gives an order, and whether it may read the answer.
    local function try(address, target)
      page:open(address)
      return page:run([[return Promise.all([
          fetch(arguments[0] + "/_sandbox/play", { method: "POST", mode: "no-cors",
            headers: { "Content-Type": "text/plain" }, body: '{"status":500}' }),
          fetch(arguments[0] + "/_sandbox/messages?all=1"),
        ]).then((replies) => replies.map(({ status }) => status),
                (error) => String(error))]], target)
    end
    local port = box.plain_port
    -- Its own name for this machine: to the browser it is the sandbox's own page.
    local rebound = ("http://rebound.example.com:%d"):format(port)
    assert.same({ 403, 403 }, try(rebound .. "/_sandbox/state", rebound))
    -- Another page, which does not need to read the answer in order to do harm.
    assert.is_string(try(rebound .. "/_sandbox/state", box.plain))
    -- Another program of this machine that serves pages.
    local other = assert(sandbox.start())
    finally(function() other:stop() end)
    assert.is_string(try(other.plain .. "/_sandbox/state", box.plain))
    assert.equal(0, box:get("play").plays)
    -- The same from its own page does something, so that the above says something.
    assert.same({ 200, 200 }, try(box.plain .. "/_sandbox/state", box.plain))
    assert.equal(1, box:get("play").plays)
  end)

  it("never scrolls sideways, from a telephone's width on", function()
    send "+15005551003"
    for _, width in ipairs { 320, 390, 768, 1024, 1920 } do
      open(width, 900)
      page:await(FIRST_LINE, "Unknown", "+15005551003")
      page:run "document.querySelector('#entries summary').click()"
      page:await "return document.querySelector('.parts')"
      local over = page:run("return document.documentElement.scrollWidth "
        .. "- document.documentElement.clientWidth")
      assert.equal(0, over, "at " .. width)
    end
  end)

  it("has nothing serious for axe-core, empty, busy, open, in light and dark", function()
    local source, why = axe()
    if not source then return pending(why) end
    local function check(what)
      page:run(source .. "\n; window.axe = axe")
      assert.same({}, page:run(RUN_AXE), what)
    end
    for _, scheme in ipairs { "light", "dark" } do
      assert(box:control("DELETE", "state"))
      open(1280, 900, scheme)
      check("empty, " .. scheme)
      for _, to in ipairs { TO, "+15005550401", "+15005551001" } do send(to) end
      assert(box:control("POST", "settings", { per_minute = 3 }))
      assert(box:control("POST", "play", { status = 500, times = 2 }))
      for _, width in ipairs { 1280, 390 } do
        open(width, 900, scheme)
        page:await(FIRST_LINE, "Unknown", "+15005551001")
        page:await "return !document.getElementById('waiting').hidden || innerWidth < 500"
        page:run [[for (const part of document.querySelectorAll("details")) part.open = true;
          for (const part of document.querySelectorAll(".fresh")) part.classList.remove("fresh")]]
        page:await "return document.querySelectorAll('.parts').length === 3"
        check(("busy, %s, %d wide"):format(scheme, width))
      end
    end
  end)
end)
