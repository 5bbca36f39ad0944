-- How records and overrides are written. For verbs of one circuit.

local RECORD, HELD = KEYS[4], KEYS[5]

local c = find(REQUEST.name, RECORD, HELD)
read_group()
if c.newer or group.newer then
  return refuse('newer')
end
