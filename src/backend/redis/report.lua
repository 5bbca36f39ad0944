-- Replica; seq; generation; calls, failures, slow calls, streak; whether one succeeded; how long the
-- vote counts, or -1; whether to tell the shares; the window in milliseconds, the length of a bucket
-- and how many there are, or nothing.
--
-- A ring is an array: the newest bucket, three totals, then of each bucket with calls, oldest first,
-- how old it is and its three counts. While no bucket ends the totals are right as they are.

local replica, seq, generation = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local calls, failures, slow, streak =
  tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local succeeded, vote, wants_shares = ARGV[11] == '1', tonumber(ARGV[12]), ARGV[13] == '1'
local millis, width, buckets = tonumber(ARGV[14] or 0), tonumber(ARGV[15]), tonumber(ARGV[16])
local window = ARGV[14] and 'w:' .. ARGV[14] .. 'x' .. ARGV[16]

-- Replicas that have not been seen for so long, or for the window, are forgotten.
local FORGET = 600000
local MOST_REPLICAS = 1000

local function slide(ring)
  ring = ring or { 0, 0, 0, 0 }
  local newest = math.max(ring[1], math.floor(NOW / width))
  local shift = newest - ring[1]
  if shift == 0 then
    return ring
  end
  local slid = { newest, 0, 0, 0 }
  for i = 5, #ring, 4 do
    local age = ring[i] + shift
    if age < buckets then
      slid[#slid + 1] = age
      for n = 1, 3 do
        slid[#slid + 1] = ring[i + n]
        slid[1 + n] = slid[1 + n] + ring[i + n]
      end
    end
  end
  return slid
end

local function add(ring)
  if calls + failures + slow == 0 then
    return ring
  end
  if #ring == 4 or ring[#ring - 3] ~= 0 then
    for _ = 1, 4 do ring[#ring + 1] = 0 end
  end
  for n, more in ipairs({ calls, failures, slow }) do
    ring[#ring - 3 + n] = ring[#ring - 3 + n] + more
    ring[1 + n] = ring[1 + n] + more
  end
  return ring
end

local function tally(ring, consecutive)
  ring = ring or {}
  return { calls = ring[2], failures = ring[3], slow = ring[4], streak = consecutive }
end

-- Of a replica: the last seq, when it was seen, its part of the streak and of which, its rings.
local function replicas()
  local all, found = redis.call('HGETALL', RECORD), {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'r:' then
      found[#found + 1] = { field = all[i], is = cmsgpack.unpack(all[i + 1]) }
    end
  end
  return found
end

local function remove(fields)
  -- In parts: Lua's stack holds some thousands.
  for i = 1, #fields, 1000 do
    redis.call('HDEL', RECORD, unpack(fields, i, math.min(i + 999, #fields)))
  end
end

-- Forgets replicas that are gone: each start of a process is another one. Where more are alive than
-- a record can bear, the quarter that has been silent for longest goes as well.
local function sweep()
  local found, gone, live = replicas(), {}, {}
  for _, other in ipairs(found) do
    local silent = NOW - other.is[2]
    if silent > math.max(millis, FORGET) then
      gone[#gone + 1] = other.field
    else
      live[#live + 1] = other
    end
  end
  if #live >= MOST_REPLICAS then
    table.sort(live, function(a, b) return a.is[2] < b.is[2] end)
    for i = 1, math.floor(#live / 4) do gone[#gone + 1] = live[i].field end
  end
  remove(gone)
  redis.call('HSET', RECORD, 'sweep', whole(NOW + FORGET))
end

if generation == 1 and absent and seq > 0 then
  replace({ generation = 1, revision = 1, state = 'closed', sweep = NOW + FORGET })
end
if absent or record.generation ~= generation or record.state ~= 'closed' then
  return answer(view(record.state == 'closed' and { tally = {}, shares = {} }))
end

local field = 'r:' .. replica
local known = redis.call('HGET', RECORD, field)
local mine = known and cmsgpack.unpack(known) or { 0, NOW, 0, 0, {} }
local packed = window and redis.call('HGET', RECORD, window)
local ring = window and slide(packed and cmsgpack.unpack(packed))

if seq > mine[1] then
  if not known and (NOW >= record.sweep or redis.call('HLEN', RECORD) > MOST_REPLICAS) then
    sweep()
  end
  mine[1], mine[2] = seq, NOW
  if streak > 0 then
    record.streak = record.streak + streak
    if mine[4] ~= record.streaks then
      mine[3], mine[4] = 0, record.streaks
    end
    mine[3] = mine[3] + streak
  elseif succeeded then
    record.streak, record.streaks = 0, record.streaks + 1
  end
  local fields = { 'streak', whole(record.streak), 'streaks', whole(record.streaks) }
  if window then
    ring = add(ring)
    fields[#fields + 1] = window
    fields[#fields + 1] = cmsgpack.pack(ring)
    if wants_shares then
      mine[5][window] = add(slide(mine[5][window]))
    end
  end
  fields[#fields + 1] = field
  fields[#fields + 1] = cmsgpack.pack(mine)
  local votes = live_votes()
  if vote > 0 or votes[replica] then
    votes[replica] = vote > 0 and NOW + vote or nil
    record.votes = cmsgpack.pack(votes)
    fields[#fields + 1] = 'votes'
    fields[#fields + 1] = record.votes
  end
  redis.call('HSET', RECORD, unpack(fields))
  keep(math.max(millis, vote))
end

local shares = {}
if wants_shares then
  for _, other in ipairs(replicas()) do
    local theirs = other.is[5][window or '']
    local part = other.is[4] == record.streaks and other.is[3] or 0
    shares[#shares + 1] = list(tally(theirs and slide(theirs), part), TALLY)
  end
end
return answer(view({ tally = tally(ring, record.streak), shares = shares }))
