--- What secrets and ids probably should not look like. Nothing is refused for it, since nobody
-- but the platform knows what it gives out; `koresms check` warns. No text shows any of a value.
local M = {}

-- What the platform's client secrets have.
local SECRET_LENGTH = 44

-- Each pattern, and what stands there where it is found.
local signs = {
  { "^%s", "a blank at its beginning" }, { "%s$", "a blank at its end" },
  { "^[\"'`]", "a quote at its beginning" }, { "[\"'`]$", "a quote at its end" },
  { "^%s*[%w_ ]*KORESMS_[%w_]+%s*[=:]", "the name of a variable before it" },
  { "^%s*<", "an angle bracket at its beginning, as in an example" },
  { "^%s*%$[{(]?%w", "a '$' at its beginning, as of a variable that was not filled in" },
  { "^%*+$", "nothing but asterisks, as where a program has hidden it" },
  { "[\1-\31\127]", "a control character" },
  { "[\128-\255]", "characters that are not ASCII" },
}

-- What programs and people write where there is no value yet.
local placeholders = { null = true, ["nil"] = true, none = true, undefined = true, changeme = true,
  change_me = true, todo = true, xxx = true, secret = true, password = true, example = true }

-- What is found in a value, in words.
local function found_in(value)
  local found = {}
  if placeholders[value:lower()] then found[1] = "a word that stands for no value" end
  for _, sign in ipairs(signs) do
    if value:find(sign[1]) then found[#found + 1] = sign[2] end
  end
  return found
end

-- The settings to look at, and the value of each: the text of a secret that came from a file
-- stands under another name.
local watched = {
  { "bot_id", "bot_id" }, { "client_id", "client_id" }, { "subject", "subject" },
  { "token", "token" }, { "client_secret", "client_secret" },
  { "client_secret_file", "client_secret" },
}

--- Looks at the secrets and ids among some settings.
-- @tparam table settings as koresms.config collects them
-- @treturn {string,...} a text for each setting in which something was found
function M.of(settings)
  local texts = {}
  for _, row in ipairs(watched) do
    local name, value = row[1], settings[row[2]]
    local used = row[2] ~= "client_secret" or settings.credential == name
    if used and type(value) == "string" then
      local found = found_in(value)
      if row[2] == "client_secret" and #value ~= SECRET_LENGTH then
        found[#found + 1] = ("another length than the %d bytes of the platform's secrets")
          :format(SECRET_LENGTH)
      end
      if name == "token" and not value:find("^[%w_-]+%.[%w_-]+%.[%w_-]+$") then
        found[#found + 1] = "another form than a token, which has three parts with dots between"
      end
      if found[1] then
        texts[#texts + 1] = ("%s has %s; is that meant?"):format(settings.where[name],
          table.concat(found, ", "))
      end
    end
  end
  return texts
end

return M
