-- The change: set, clear or reset; and the override that is set.

override(math.max(c.override.version + 1, NOW), REQUEST.override)
if REQUEST.change == 'reset' then
  enter('closed', 'override', {})
end
changed(c)
return answer()
