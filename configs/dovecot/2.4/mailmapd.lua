-- Passwords and users for Dovecot 2.4 from mailmapd, over HTTP on a UNIX socket.
--
-- Install as /etc/dovecot/mailmapd.lua; `mailmapd snippets dovecot-2.4` prints the sections that use it. Debian: apt-get install dovecot-auth-lua.
--
-- Settings (lua_settings { … } inside passdb lua { } and userdb lua { }), with their defaults:
--   socket     /run/mailmapd/lookup     listen.lookup_http of mailmapd.toml, without "unix:"
--   dict       auth                     the [dict.NAME] to ask
--   timeout    10s                      for one answer; mailmapd itself answers or gives up earlier
--   variables  user protocol            what the queries use, by Dovecot's names; they are part of Dovecot's own cache key.
--                                       A query that uses another one is a temporary failure
--   fresh      no                       yes in the passdb that is asked after a mismatch: the password has perhaps been changed
--
-- Dovecot verifies the password itself. Whatever goes wrong is an internal failure ("try again"), never an unknown user:
-- only the words "not_found" from mailmapd say that there is none.

local http_client
local settings = {
  socket = "/run/mailmapd/lookup",
  dict = "auth",
  timeout = "10s",
  variables = "user protocol",
  fresh = "no",
}

-- What Dovecot 2.4 knows and mailmapd takes. A script sees no difference between a variable without a value and one that does not exist.
local known = {}
for name in ([[
  user protocol local_ip remote_ip local_port remote_port real_local_ip real_remote_ip real_local_port real_remote_port mechanism secured
  cert client_pid session session_pid login_user original_user auth_user master_user local_name client_id
]]):gmatch("%S+") do
  known[name] = true
end

local function encode(text)
  return (text:gsub("[^%w._~-]", function(letter)
    return string.format("%%%02X", letter:byte())
  end))
end

-- Return the UTF-8 bytes of a code point (Dovecot may be built with a Lua that has no utf8 library).
local function utf8_bytes(code)
  if code < 0x80 then
    return string.char(code)
  elseif code < 0x800 then
    return string.char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40)
  elseif code < 0x10000 then
    return string.char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
  end
  return string.char(
    0xF0 + math.floor(code / 0x40000), 0x80 + math.floor(code / 0x1000) % 0x40,
    0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end

local escapes = { ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

-- Return the string that starts at the quote at `position`, and the position behind it; raise an error for anything else.
local function parse_string(text, position)
  if text:sub(position, position) ~= '"' then
    error("a string was expected")
  end
  position = position + 1
  local pieces = {}
  while true do
    local stop = text:find('["\\]', position)
    if stop == nil then
      error("a string does not end")
    end
    pieces[#pieces + 1] = text:sub(position, stop - 1)
    if text:sub(stop, stop) == '"' then
      return table.concat(pieces), stop + 1
    end
    local letter = text:sub(stop + 1, stop + 1)
    if letter == "u" then
      local code = tonumber(text:match("^%x%x%x%x", stop + 2), 16)
      if code == nil or code == 0 then
        error("a string has a bad escape")
      end
      position = stop + 6
      if code >= 0xD800 and code < 0xDC00 then
        local low = tonumber(text:match("^\\u(%x%x%x%x)", position) or "", 16)
        if low == nil then
          error("a string has a bad escape")
        end
        code = 0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00)
        position = position + 6
      end
      pieces[#pieces + 1] = utf8_bytes(code)
    else
      if escapes[letter] == nil then
        error("a string has a bad escape")
      end
      pieces[#pieces + 1] = escapes[letter]
      position = stop + 2
    end
  end
end

-- Call `take(position)` for each item between the bracket before `position` and `closing`; return the position behind it.
local function parse_items(text, position, closing, take)
  if text:sub(position, position) == closing then
    return position + 1
  end
  while true do
    position = take(position)
    local mark
    mark, position = text:match("^%s*([,%]}])%s*()", position)
    if mark == closing then
      return position
    elseif mark ~= "," then
      error("a comma or a bracket was expected")
    end
  end
end

-- Return what a field makes of a user name, or nil when it is not about the name (auth-request.c, get_updated_username).
local function renamed(user, name, value)
  if name == "user" or (name == "username" and value:find("@", 1, true)) then
    return value
  elseif name == "username" then
    return value .. (user:match("@.*") or "")
  elseif name == "domain" then
    return user:match("^[^@]*") .. "@" .. value
  end
  return nil
end

-- Return the members of a flat JSON object of strings that starts at `position`, and the position behind it.
-- Dovecot takes a table's fields in any order, so those that change the user name, one after the other, become one.
local function parse_fields(text, position, user)
  local fields = {}
  local behind = parse_items(text, position + 1, "}", function(at)
    local name, value
    name, at = parse_string(text, at)
    at = text:match("^%s*:%s*()", at)
    if at == nil then
      error("a colon was expected")
    end
    value, at = parse_string(text, at)
    local new = renamed(fields.user or user, name, value)
    if new ~= nil then
      fields.user = new
    else
      fields[name] = value
    end
    return at
  end)
  return fields, behind
end

local function parse_users(text, position)
  local users = {}
  local behind = parse_items(text, position + 1, "]", function(at)
    users[#users + 1], at = parse_string(text, at)
    return at
  end)
  return users, behind
end

-- Ask mailmapd and return the parsed answer, nil when it says "not_found". Raises an error for everything else.
local function ask(path, parameters, key, parse, user)
  local request = http_client:request({ url = "http://mailmapd/" .. path, method = "POST" })
  request:add_header("Content-Type", "application/x-www-form-urlencoded")
  request:set_payload(parameters)
  local response = request:submit()
  if response:status() ~= 200 then
    local reason = response:payload():match('"reason": "([^"\\]*)"')
    error("mailmapd: " .. (reason or response:status() .. " " .. response:reason()), 0)
  end
  local text = response:payload()
  if text:match('^{"result": "not_found"}%s*$') then
    return nil
  end
  local position = text:match('^{"result": "found", "' .. key .. '": ()[%[{]')
  if position == nil then
    error("mailmapd: the answer cannot be understood", 0)
  end
  local result, behind = parse(text, position, user)
  if not text:match("^}%s*$", behind) then
    error("mailmapd: the answer is not complete", 0)
  end
  return result
end

local function question(req)
  local parts = { "fields=2.4&dict=" .. encode(settings.dict) }
  local names = settings.variables
  if settings.fresh == "yes" then
    parts[#parts + 1] = "fresh=yes"
    if not (" " .. names .. " "):find(" original_user ", 1, true) then
      names = names .. " original_user" -- the first answer may have renamed the user
    end
  end
  for name in names:gmatch("%S+") do
    parts[#parts + 1] = name .. "=" .. encode(tostring(req[name] or ""))
  end
  return table.concat(parts, "&")
end

local function lookup(path, req, ok, unknown, failure)
  local done, result = pcall(function() return ask(path, question(req), "fields", parse_fields, req.user) end)
  if not done then
    req:log_error(tostring(result))
    return failure, "mailmapd could not answer"
  elseif result == nil then
    return unknown, "no such user"
  end
  return ok, result
end

function script_init(given)
  for name, value in pairs(given or {}) do
    if settings[name] == nil then
      error("mailmapd.lua: unknown setting " .. name)
    end
    settings[name] = value
  end
  for name in settings.variables:gmatch("%S+") do
    if not known[name] then
      error("mailmapd.lua: no variable of Dovecot 2.4 that can be sent: " .. name)
    end
  end
  http_client = dovecot.http.client({
    proxy_socket_path = settings.socket,
    request_timeout = settings.timeout,
    request_max_attempts = "2",
    max_idle_time = "60s", -- keeps the connection between lookups; Dovecot's default closes it each time
  })
  return 0
end

function auth_passdb_lookup(req)
  local auth = dovecot.auth
  return lookup("passdb", req, auth.PASSDB_RESULT_OK, auth.PASSDB_RESULT_USER_UNKNOWN, auth.PASSDB_RESULT_INTERNAL_FAILURE)
end

function auth_userdb_lookup(req)
  local auth = dovecot.auth
  return lookup("userdb", req, auth.USERDB_RESULT_OK, auth.USERDB_RESULT_USER_UNKNOWN, auth.USERDB_RESULT_INTERNAL_FAILURE)
end

-- Errors raised here make the listing fail as a whole, as it must when it is not complete.
function auth_userdb_iterate()
  return ask("users", "dict=" .. encode(settings.dict), "users", parse_users)
end

local function cache_key()
  local parts = {}
  for name in settings.variables:gmatch("%S+") do
    parts[#parts + 1] = "%{" .. name .. "}"
  end
  return table.concat(parts)
end

auth_passdb_get_cache_key = cache_key
auth_userdb_get_cache_key = cache_key
