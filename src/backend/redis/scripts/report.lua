-- How a report is added to a record.
--
-- A ring is an array: the newest bucket, three totals, then of each bucket with calls how old it
-- is, in buckets, and its three counts. While no bucket ends the totals are right as they are.

local MOST_SENDERS, MOST_MOMENTS, MOST_NEWEST = 1000, 64, 8
local FORGET = 600000

local function slide(ring, window)
  local newest = math.floor(NOW / window.width)
  if not ring or #ring % 4 ~= 0 or type(ring[1]) ~= 'number' or ring[1] > newest + 1 then
    return { newest, 0, 0, 0 }
  end
  newest = math.max(newest, ring[1])
  local shift = newest - ring[1]
  if shift == 0 then
    return ring
  end
  local slid = { newest, 0, 0, 0 }
  for i = 5, #ring, 4 do
    local age = ring[i] + shift
    if age < window.buckets then
      slid[#slid + 1] = age
      for n = 1, 3 do
        slid[#slid + 1] = ring[i + n]
        slid[1 + n] = math.min(slid[1 + n] + ring[i + n], MOST)
      end
    end
  end
  return slid
end

local function add(ring, window, counts)
  local at = {}
  for i = 5, #ring, 4 do at[ring[i]] = i end
  for _, count in ipairs(counts) do
    local age = ring[1] - math.floor((NOW_US - count[1]) / 1000 / window.width)
    if age < window.buckets then
      local i = at[age]
      if not i then
        i = #ring + 1
        ring[i], ring[i + 1], ring[i + 2], ring[i + 3] = age, 0, 0, 0
        at[age] = i
      end
      for n = 1, 3 do
        ring[i + n] = math.min(ring[i + n] + count[n + 1], MOST)
        ring[1 + n] = math.min(ring[1 + n] + count[n + 1], MOST)
      end
    end
  end
  return ring
end

-- Adds to a streak. Of too many moments the oldest two become one, of the older's time: a later
-- success then ends rather more of it than less.
local function extend(streak, failures, last_success)
  if last_success and last_success > streak[1] then
    local kept = { last_success }
    for i = 2, #streak, 2 do
      if streak[i] > last_success then
        kept[#kept + 1] = streak[i]
        kept[#kept + 1] = streak[i + 1]
      end
    end
    streak = kept
  end
  for _, failed in ipairs(failures) do
    local time = NOW_US - failed[1]
    if time > streak[1] then
      local i = #streak - 1
      while i >= 2 and streak[i] > time do i = i - 2 end
      if i >= 2 and streak[i] == time then
        streak[i + 1] = streak[i + 1] + failed[2]
      else
        table.insert(streak, i + 2, failed[2])
        table.insert(streak, i + 2, time)
      end
    end
  end
  while #streak > 1 + 2 * MOST_MOMENTS do
    streak[5], streak[4] = streak[5] + streak[3], streak[2]
    table.remove(streak, 2)
    table.remove(streak, 2)
  end
  return streak
end

-- What is young enough, with its age as it is now.
local function grown(list, horizon)
  local kept = {}
  for _, item in ipairs(list or {}) do
    local age = item[1] + DELAY
    if age < horizon * 1000 then
      item[1] = age
      kept[#kept + 1] = item
    end
  end
  return kept
end

-- A sender with shares: when it was heard of, its streak, and its rings by window.
local function share(packed)
  local value = unpacked(packed)
  if not value then return nil end
  local seen, streak, rings = value[1], value[2], value[3]
  local is_ours = type(seen) == 'number' and type(streak) == 'string' and type(rings) == 'table'
  return is_ours and { seen, streak, rings } or nil
end

-- The senders with shares. The fields of those that have been silent for too long are `gone`.
local function shares(c, horizon)
  local all, found, gone = redis.call('HGETALL', c.key), {}, {}
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'r:' then
      local value = share(all[i + 1])
      if value and NOW - value[1] <= math.max(horizon, FORGET) then
        found[#found + 1] = { field = all[i], is = value }
      else
        gone[#gone + 1] = all[i]
      end
    end
  end
  return found, gone
end

local function make_room(c, horizon)
  if redis.call('HLEN', c.key) <= MOST_SENDERS then return end
  local found, gone = shares(c, horizon)
  if #found >= MOST_SENDERS then
    table.sort(found, function(a, b) return a.is[1] < b.is[1] end)
    for i = 1, math.floor(#found / 4) do gone[#gone + 1] = found[i].field end
  end
  remove(c.key, gone)
end

-- The newest senders of failures: name and moment of each, newest first.
local function newest(packed)
  local known = unpacked(packed) or {}
  local list = { REQUEST.name, NOW }
  for i = 1, #known - 1, 2 do
    if #list < 2 * MOST_NEWEST and known[i] ~= REQUEST.name then
      list[#list + 1] = known[i]
      list[#list + 1] = known[i + 1]
    end
  end
  return cmsgpack.pack(list)
end

local function vote(c, lasts)
  local live, count = votes(c)
  if count >= MOST_SENDERS and lasts and not live[REQUEST.name] then
    local first
    for name, till in pairs(live) do
      if not first or till < live[first] then first = name end
    end
    live[first] = nil
  end
  live[REQUEST.name] = lasts and NOW + math.min(lasts, HOUR) or nil
  c.votes = next(live) and cmsgpack.pack(live) or ''
  return c.votes
end

-- What each sender has contributed to the totals in a window.
local function parts(c, window, field, horizon)
  local found = {}
  for _, other in ipairs((shares(c, horizon))) do
    local streak = extend(current(unpacked(other.is[2]), horizon), {}, c.streak[1])
    local known = window and unpacked(other.is[3][field])
    local theirs = known and slide(known, window) or {}
    local part = { calls = theirs[2], failures = theirs[3], slow = theirs[4],
      consecutive = consecutive(streak, NOW_US) }
    if (part.calls or 0) + (part.slow or 0) + (part.failures or 0) + part.consecutive > 0 then
      found[#found + 1] = list(part, TALLY)
    end
  end
  return found
end

-- Adds a report to a closed record of its generation, and calls or ends the roll. Whether it is
-- `fresh`: what a batch has added before is not added again. Which roll calls it answers.
local function report(c, r, fresh, answers)
  local window = r.window and { millis = r.window[1], width = r.window[2], buckets = r.window[3] }
  local field = window and 'w:' .. whole(window.millis) .. 'x' .. whole(window.buckets)
  local horizon = window and window.millis or HORIZON
  local ring = window and slide(c.ring, window)
  -- The same, whether or not the report adds something.
  local function totals()
    local shown = { counts = { consecutive = consecutive(current(c.streak, horizon), NOW_US) } }
    local counts = shown.counts
    if ring then counts.calls, counts.failures, counts.slow = ring[2], ring[3], ring[4] end
    if r.shares == 2 then shown.shares = parts(c, window, field, horizon) end
    return shown
  end

  if c.state ~= 'closed' then return nil end
  if not fresh or c.generation ~= r.generation then return totals() end
  local counts, failures = grown(r.counts, horizon), grown(r.failures, horizon)
  local lasts = r.vote and r.vote - DELAY / 1000 > 0 and r.vote - math.floor(DELAY / 1000) or nil
  local calls_roll = r.roll and r.roll == c.roll
  local fields = {}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if c.absent then
    if #counts + #failures == 0 and not lasts and not calls_roll then
      return totals()
    end
    redis.call('DEL', c.key)
    c.absent, c.revision = false, 1
    set('schema', whole(SCHEMA))
    set('generation', '1')
    set('revision', '1')
    set('state', 'closed')
  end

  local last_success = r.last_success and NOW_US - r.last_success - DELAY
  local before = #c.streak
  c.streak = current(c.streak, horizon)
  if #c.streak < before then
    -- Shorter than the window of other reports: shares must not count more than the total.
    for _, other in ipairs((shares(c, c.horizon))) do
      other.is[2] = cmsgpack.pack(current(unpacked(other.is[2]), horizon))
      set(other.field, cmsgpack.pack(other.is))
    end
  end
  if last_success or #failures > 0 then
    c.streak = extend(c.streak, failures, last_success)
    set('streak', cmsgpack.pack(c.streak))
  elseif #c.streak < before then
    set('streak', cmsgpack.pack(c.streak))
  end
  if window and #counts > 0 then
    ring = add(ring, window, counts)
    set(field, cmsgpack.pack(ring))
  end
  local failed = #failures > 0
  for _, count in ipairs(counts) do failed = failed or count[3] > 0 end
  if failed then
    c.senders = newest(c.senders)
    set('senders', c.senders)
  end
  if lasts or c.votes and votes(c)[REQUEST.name] then
    set('votes', vote(c, lasts))
  end
  if horizon > c.horizon then
    c.horizon = horizon
    set('horizon', whole(horizon))
  end
  if r.shares then
    local mine = share(c.replica)
    if not mine then
      make_room(c, horizon)
      mine = { NOW, cmsgpack.pack({ 0 }), {} }
    end
    mine[1] = NOW
    local streak = current(unpacked(mine[2]), horizon)
    mine[2] = cmsgpack.pack(extend(streak, failures, c.streak[1]))
    if window then
      local known = type(mine[3][field]) == 'string' and mine[3][field]
      mine[3][field] = cmsgpack.pack(add(slide(unpacked(known), window), window, counts))
    end
    set('r:' .. REQUEST.name, cmsgpack.pack(mine))
  end

  local is_changed = false
  if calls_roll then
    -- The version that this change gets.
    c.roll, c.roll_at, is_changed = math.max(group.version + 1, NOW), NOW_US, true
    c.whole = 0
    set('roll', whole(c.roll))
    set('roll_at', whole(c.roll_at))
    set('whole', '0')
  elseif r.quiet and c.roll > 0 and r.quiet == c.roll then
    c.roll, is_changed = 0, true
    set('roll', '0')
  elseif answers(c.roll) then
    -- What every replica that has answered had counted when the first of them did is known.
    local sent = math.max(NOW_US - DELAY, c.roll_at)
    if c.whole == 0 or sent < c.whole then
      c.whole = sent
      set('whole', whole(sent))
    end
  end
  if is_changed then
    c.revision = c.revision + 1
    set('revision', whole(c.revision))
  end
  if #fields > 0 then
    redis.call('HSET', c.key, unpack(fields))
    local lives = math.max(c.horizon, c['until'] - NOW, 1000)
    if c.votes then
      for _, till in pairs((votes(c))) do lives = math.max(lives, till - NOW) end
    end
    redis.call('PEXPIRE', c.key, whole(lives))
  end
  if is_changed then changed(c) end
  return totals()
end
