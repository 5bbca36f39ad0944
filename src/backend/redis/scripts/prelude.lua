-- What all verbs share; put in front of each.
--
-- ARGV: the channel of changes; the server's time in microseconds after which the caller has gone
-- (0: it waits, or it does not matter); the server's time at which the caller sent this, as it
-- estimates it; a number, which the answer repeats; and the request, as JSON. Every answer bears
-- the server's time.
--
-- Names of circuits are escaped, as they are in keys.

local SCHEMA = 2
local HOUR, DAY = 3600000, 86400000
-- Doubles count up to here.
local MOST = 2 ^ 53 - 1
local CHANNEL, NOT_AFTER, SENT, ID = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local REQUEST = cjson.decode(ARGV[5])

-- Read once: on Redis 7.0 it moves within a script.
local TIME = redis.call('TIME')
local NOW_US = TIME[1] * 1000000 + TIME[2]
local NOW = math.floor(NOW_US / 1000)
-- How long the request was on its way. Everything that has an age is older by that.
local DELAY = SENT > 0 and math.max(NOW_US - SENT, 0) or 0

-- A number that was edited in a record may be anything, and must not make an answer unreadable for
-- the other circuits in it. In this order, also no number (NaN) becomes one.
local function bounded(n)
  return math.max(0, math.min(MOST, n))
end

-- Concatenation keeps 14 digits of a number.
local function whole(n)
  return string.format('%.0f', bounded(n))
end

-- What is missing, or is no number that we would have written, is 0.
local function number(text)
  if not text then return 0 end
  local n = tonumber(text)
  return n and n >= 0 and n <= MOST and math.floor(n) or 0
end

-- The table that was packed. Anything else is nothing.
local function unpacked(text)
  if not text then return nil end
  local ok, value = pcall(cmsgpack.unpack, text)
  return ok and type(value) == 'table' and value or nil
end

-- The table of numbers that was packed.
local function numbers(text)
  local list = unpacked(text)
  for _, value in pairs(list or {}) do
    if type(value) ~= 'number' or value ~= value then return nil end
  end
  return list
end

-- The map of texts to moments that was packed.
local function moments(text)
  local map = numbers(text) or {}
  for name in pairs(map) do
    if type(name) ~= 'string' then return {} end
  end
  return map
end

local UNPUBLISHED, PUBLISHED

local function head()
  local said = '{"id":' .. ID .. ',"now":' .. whole(NOW_US)
  if UNPUBLISHED then return said .. ',"unpublished":' .. cjson.encode(UNPUBLISHED) end
  return PUBLISHED and said .. ',"published":true' or said
end

local function refuse(why)
  return head() .. ',"refused":"' .. why .. '"}'
end

if NOT_AFTER > 0 and NOW_US > NOT_AFTER then
  return refuse('late')
end
