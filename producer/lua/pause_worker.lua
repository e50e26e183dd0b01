-- Pause a worker by its name without its start's part, or let it go on; told only if that changes
-- anything.
-- args: known_as, is_paused, duration_s (nil: no end). Answer: 1 if it changed.
local stored = text_at(PAUSED, args.known_as)
if not args.is_paused then
  if not stored then return 0 end
  redis.call('HDEL', PAUSED, args.known_as)
  tell('kind', 'worker_resumed', 'worker', args.known_as)
  return 1
end
local till = args.duration_s and now + args.duration_s or nil
redis.call('HSET', PAUSED, args.known_as, till and string.format('%.3f', till) or 'inf')
redis.call('EXPIRE', PAUSED, YEAR_S)
if not stored then
  tell('kind', 'worker_paused', 'worker', args.known_as, 'until', till and stamp(till) or '')
end
return stored and 0 or 1
