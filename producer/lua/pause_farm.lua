-- Let no worker claim a job, by the key that RQ's own workers look at, or let them go on; told only if
-- that changes anything.
-- args: is_paused, duration_s (nil: no end). Answer: 1 if it changed.
if not args.is_paused then
  if redis.call('DEL', SUSPENDED) == 0 then return 0 end
  tell('kind', 'farm_resumed')
  return 1
end
local was_paused = redis.call('EXISTS', SUSPENDED) == 1
redis.call('SET', SUSPENDED, '1')
if args.duration_s then redis.call('EXPIRE', SUSPENDED, args.duration_s) end
if not was_paused then
  tell('kind', 'farm_paused', 'until', args.duration_s and stamp(now + args.duration_s) or '')
end
return was_paused and 0 or 1
