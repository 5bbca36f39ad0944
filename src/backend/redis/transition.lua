-- From generation; to; reason; where it opens, the opening and the tally.

if record.generation ~= tonumber(ARGV[4]) then
  return answer(view())
end
if ARGV[5] == 'open' then
  open(take(ARGV, OPENING, 7), ARGV[6], take(ARGV, TALLY, 12))
else
  enter('closed', ARGV[6], {})
end
return tell()
