-- Generation; revision; state; reason or ''; what remains; the opening; the tally; then, of what a
-- hand has set, its version, and as impose has it.

local generation, revision, state = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local told = false

if record.generation < generation
  or (record.generation == generation and record.revision < revision) then
  local new = {
    generation = generation,
    revision = revision + 1,
    state = state,
    reason = ARGV[7] ~= '' and ARGV[7] or nil,
  }
  if state ~= 'closed' then
    local opening = take(ARGV, OPENING, 9)
    merge(merge(new, opening), take(ARGV, TALLY, 14))
    new.state = 'open'
    local remaining = state == 'open' and math.min(tonumber(ARGV[8]), opening.interval) or 0
    new['until'] = NOW + remaining
  end
  replace(new)
  told = true
end
if hand.version < tonumber(ARGV[18]) then
  set_hand(tonumber(ARGV[18]), ARGV[19], ARGV[20], ARGV[22], tonumber(ARGV[21]))
  told = true
end
if told then
  return tell()
end
return answer(view())
