-- The same request for wrk.
-- luacheck: globals wrk
wrk.method = "POST"
wrk.headers["auth"] = ("x"):rep(216)
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"
wrk.body = '{"fromNo":"+19876543210","toNo":"+911234567890"}'
