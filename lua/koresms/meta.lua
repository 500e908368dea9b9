---@meta koresms
-- LuaCATS annotations of the public interface. This file is for editors and checkers; no
-- program loads it.
error("koresms.meta holds annotations for editors; require \"koresms\"")

---How a message ended.
---@alias koresms.Outcome
---| "accepted" # the platform triggered the experience flow
---| "rejected" # the platform refused
---| "not_sent" # not a byte of the request left
---| "unknown"  # a request may have left and no usable answer came; never repeated

---Stable under SemVer; the texts beside them are not.
---@alias koresms.Code
---| "invalid_number"
---| "config"
---| "sign"
---| "rate_limited"
---| "dns"
---| "connect"
---| "proxy"
---| "tls"
---| "timeout"
---| "cancelled"
---| "context"
---| "connection_lost"
---| "bad_response"
---| "server_error"
---| "unauthorized"
---| "forbidden"
---| "not_found"
---| "redirect"
---| "invalid_request"

---@class (exact) koresms.Message
---@field to string recipient, E.164: "+911234567890"
---@field from? string sender, E.164; default: the setting `from`
---@field id? string the caller's own; default: 128 random bits in hexadecimal
---@field start_before? number on the clock of `koresms.clock`: after it no request begins

---@class koresms.Result
---@field outcome koresms.Outcome
---@field code? koresms.Code nil when accepted
---@field message? string for people; nil when accepted
---@field retryable boolean true only where sending again cannot duplicate and may succeed
---@field retry_after? number seconds
---@field status? integer HTTP status
---@field platform_code? number|string from the platform's error envelope
---@field platform_message? string from the platform's error envelope
---@field attempts integer requests that were put on the wire
---@field id string
---@field from? string
---@field to string
---@field index? integer place in the source of `send_many`
---@field elapsed number seconds

---@class (exact) koresms.SendOptions
---@field timeout? number seconds, repeats included, up to 86400
---@field connect_timeout? number seconds for each attempt, up to 86400
---@field retries? integer 0 to 100

---@class (exact) koresms.StreamOptions: koresms.SendOptions
---@field concurrency? integer messages in flight at most, 1 to 1024; default 16
---@field stop? fun(): boolean? asked at least twice a second; once true, nothing more starts

---@class (exact) koresms.LaterOptions: koresms.SendOptions
---@field client? koresms.Client in place of the one that is built from environment and file

---@class koresms.Event
---@field kind "attempt"|"retry"|"verdict"|"pause"
---@field id string of the message
---@field to string masked
---@field from string masked
---@field attempt? integer number of the attempt
---@field seconds? number of a retry's wait, or of a pause
---@field outcome? koresms.Outcome
---@field code? koresms.Code
---@field status? integer
---@field attempts? integer
---@field elapsed? number
---@field reused? boolean of an attempt's end: whether its connection had been used before

---@class (exact) koresms.Options
---@field host? string origin, with or without https://
---@field bot_id? string
---@field client_id? string
---@field client_secret? string
---@field client_secret_file? string
---@field private_key_file? string RSA, PEM, without passphrase
---@field token? string|fun(): string?, string?
---@field algorithm? "HS256"|"HS512"|"RS256"|"RS512"
---@field subject? string
---@field token_ttl? integer seconds, 1 to 3600
---@field jti? boolean
---@field from? string E.164
---@field timeout? number seconds
---@field connect_timeout? number seconds
---@field retries? integer
---@field per_minute? number|false
---@field per_hour? number|false
---@field proxy? string
---@field ca_file? string
---@field client_cert? string
---@field client_key? string
---@field max_idle? number seconds
---@field max_age? number seconds
---@field allow_http? boolean
---@field shared_dict? string OpenResty
---@field later_flush? number seconds, OpenResty
---@field store? string a file of SQLite, or postgres://...; read by koresms.store
---@field on_event? fun(event: koresms.Event)

---@class koresms.Client
local client = {}

---Sends one message.
---@param message koresms.Message
---@param options? koresms.SendOptions
---@return koresms.Result? result
---@return string? text
---@return koresms.Code? code
---@return koresms.Result? failed
function client:send(message, options) end

---Sends many messages and gives each result as it is known.
---@param messages koresms.Message[]|fun(free: integer): koresms.Message|false|nil, number?
---@param options? koresms.StreamOptions
---@return fun(): koresms.Result?
function client:send_many(messages, options) end

---Signs a token.
---@return string? token
---@return string? text
---@return "sign"? code
function client:token() end

---@class koresms.Stats
---@field in_flight integer requests under way
---@field waiting integer messages that wait for a permit, or for their next attempt
---@field accepted integer
---@field rejected integer
---@field not_sent integer
---@field unknown integer
---@field permits? integer that could be had now; nil without a limit
---@field paused? number seconds; nil where there is no pause
---@field connections_opened integer requests on a new connection
---@field connections_reused integer requests on a kept connection
---@field last_accepted? number Unix time
---@field later? integer OpenResty: messages in the queue of `koresms.later`

---What the client has done since it was made, in this process, and what it is doing.
---@return koresms.Stats
function client:stats() end

---Ends a pause that a throttled reply began; with `shared_dict` that of all workers.
function client:resume() end

---Closes the client. It may be called twice.
function client:close() end

---@class koresms
---@field _VERSION string
local koresms = {}

---Checks a telephone number against E.164.
---@param number string
---@return string? number
---@return string? text
---@return "invalid_number"? code
function koresms.e164(number) end

---Seconds on a clock that is never set back: the one on which `send_many` wants times.
---@return number
function koresms.clock() end

---Makes a client. No connection is opened.
---@param options? koresms.Options
---@return koresms.Client? client
---@return string? text
---@return "config"? code
function koresms.new(options) end

---Sends one message with a client that is built once, from environment and file.
---@param message koresms.Message
---@param options? koresms.SendOptions
---@return koresms.Result? result
---@return string? text
---@return koresms.Code? code
---@return koresms.Result? failed
function koresms.send(message, options) end

---OpenResty: sends from phases without network I/O, by a timer. The result goes to `on_event`.
---@param message koresms.Message
---@param options? koresms.LaterOptions
---@return true? accepted into the queue
---@return string? text
---@return koresms.Code? code
function koresms.later(message, options) end

---@class koresms.StoredMessage
---@field to string
---@field from? string
---@field id? string
---@field dedupe? string who is texted once; default: `id`, else `to`
---@field expires? string RFC 3339 with a zone

---@class koresms.Campaign
---@field name string
---@field from? string
---@field expires? string RFC 3339 with a zone

---@class koresms.RunOptions
---@field client? koresms.Client
---@field campaigns? string[] default: all that run
---@field concurrency? integer
---@field stay? boolean
---@field stop? fun(): boolean?

---@class koresms.Status
---@field name string
---@field state "importing"|"paused"|"running"|"cancelled"
---@field reason? string
---@field pending integer
---@field sending integer
---@field accepted integer
---@field rejected integer
---@field unknown integer
---@field skipped integer
---@field expired integer
---@field total integer
---@field eta? number seconds

---@alias koresms.StoredMessages koresms.StoredMessage[]|fun(): koresms.StoredMessage?
---@alias koresms.Resolution { unknown: "resend"|"skip"|nil, rejected: "retry"|nil, code: string? }
---@alias koresms.Limits { per_minute: integer|false|nil, per_hour: integer|false|nil }

---@class koresms.Store
---@field create fun(self, campaign: koresms.Campaign): true?, string?, string?
---@field resume fun(self, name: string, options?: { accept: boolean? }): true?, string?, string?
---@field pause fun(self, name: string, reason?: string): true?, string?, string?
---@field cancel fun(self, name: string): integer?, string?, string?
---@field resolve fun(self, name: string, options: koresms.Resolution): integer?, string?, string?
---@field run fun(self, options?: koresms.RunOptions): fun(): koresms.Result?
---@field failure fun(self): string?, string?
---@field status fun(self, name: string): koresms.Status?, string?, string?
---@field rows fun(self, name: string, state?: string): (fun(): table?)?, string?, string?
---@field quota fun(self, limits?: koresms.Limits): (true|koresms.Limits)?, string?, string?
---@field close fun(self)
local store = {}

---Puts messages into a campaign, each once.
---@param name string
---@param messages koresms.StoredMessages
---@return integer? added
---@return integer|string there or a text
---@return string? code
---@return integer? place of the message that will not do
function store:add(name, messages) end

---Puts numbers on the list of those that are not texted.
---@param numbers string[]
---@param options? table
---@return integer? count
---@return string? text
---@return string? code
---@return integer? place of the invalid number
function store:suppress(numbers, options) end

---Opens a store of messages that survive the process.
---@param location? string a file of SQLite, or postgres://...; default: the setting `store`
---@return koresms.Store? store
---@return string? text
---@return "config"|"store"? code
function koresms.store(location) end

return koresms
