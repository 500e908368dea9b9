-- How an application is tested with the sandbox: real requests over TLS to a real server on this
-- machine, and no mock of koresms.
--
--     cd examples/busted && busted
local koresms = require "koresms"
local sandbox = require "koresms.sandbox"
local notify = require "notify"

describe("the application", function()
  local box, client

  -- One sandbox for the file: it takes about a third of a second to start.
  setup(function()
    box = assert(sandbox.start())
    client = assert(koresms.new {
      host = box.host, ca_file = box.ca_file, bot_id = box.bot_id, client_id = box.client_id,
      client_secret = box.client_secret, from = "+19876543210", retries = 0, timeout = 1,
    })
  end)

  teardown(function()
    client:close()
    box:stop()
  end)

  -- No message, failure or setting of one spec is left to the next.
  before_each(function() assert(box:control("DELETE", "state")) end)

  it("texts a customer", function()
    assert.equal("done", notify.text(client, { number = "+911234567890", id = "order-17" }))
    local messages = box:get("messages").messages
    assert.equal(1, #messages)
    assert.equal("+911234567890", messages[1].to)
  end)

  it("drops a customer whose number is none", function()
    assert.same({ "drop", "invalid_number" }, { notify.text(client, { number = "0912" }) })
    assert.equal(0, box:get("state").requests)
  end)

  -- A number says what becomes of its message.
  for number, expected in pairs {
    ["+15005550404"] = "drop",
    ["+15005550503"] = "look",
    ["+15005551001"] = "look",
    ["+15005551002"] = "look",
  } do
    it("does what is right for " .. number, function()
      assert.equal(expected, (notify.text(client, { number = number })))
    end)
  end

  -- The sandbox says what becomes of the next request.
  it("lets a person look where the answer was lost on its way", function()
    assert(box:control("POST", "play", { close = true, when = "after" }))
    assert.equal("look", (notify.text(client, { number = "+911234567890" })))
    -- That is the point: the message was processed all the same.
    assert.equal(1, box:get("state").count)
  end)

  it("comes back later where the platform says that it is too much", function()
    assert(box:control("POST", "settings", { per_minute = 1, retry_after = 1 }))
    assert.equal("done", (notify.text(client, { number = "+911234567890" })))
    assert.equal("later", (notify.text(client, { number = "+911234567891" })))
  end)
end)
