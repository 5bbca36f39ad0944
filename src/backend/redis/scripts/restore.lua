-- A view: generation, revision, state, reason, terms, tally, contributors, what remains, and the
-- override with its version.

local to = REQUEST
local restored = false

if to.generation > NOW + DAY or to.override.version > NOW + DAY then
  return refuse('ahead')
end
if c.generation < to.generation
  or (c.generation == to.generation and c.revision < to.revision) then
  local new = {
    generation = to.generation,
    revision = to.revision + 1,
    state = to.state,
    reason = to.reason,
    horizon = c.horizon,
  }
  if to.state ~= 'closed' then
    take(to.tally, TALLY, take(to.terms, TERMS, new))
    new.contributors, new.last_error = to.contributors, to.last_error
    new.state = 'open'
    local remaining = to.state == 'open' and math.min(to.remaining, new.interval) or 0
    new['until'] = NOW + remaining
  end
  replace(new)
  restored = true
end
if c.override.version < to.override.version then
  override(to.override.version, to.override.state and to.override)
  restored = true
end
if restored then changed(c) end
return answer()
