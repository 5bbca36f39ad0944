-- State, or '' to end one; reason; how long, or -1; the actor, if there is one.

set_hand(math.max(hand.version + 1, NOW), ARGV[4], ARGV[5], ARGV[7], tonumber(ARGV[6]))
if ARGV[4] == '' then
  enter('closed', 'override', {})
end
return tell()
