-- From generation; to; reason; where it opens, the terms and the tally.

if c.generation ~= REQUEST.from then
  return answer()
end
if REQUEST.to == 'open' then
  open(REQUEST.terms, REQUEST.reason, REQUEST.tally)
else
  enter('closed', REQUEST.reason, {})
end
changed(c)
return answer()
