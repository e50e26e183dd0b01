-- Begin a run of a batch: what ends from now on is counted as its own.
-- args: batch, ttl_s.
ensure_counts(args.batch, args.ttl_s)
if not epoch_of(args.batch) then
  -- A batch of an earlier version: the first reader counts it.
  begin_epoch(args.batch)
  redis.call('EXPIRE', counts_key(args.batch), args.ttl_s)
end
local key = counts_key(args.batch)
touch(args.batch)
redis.call('HSET', key, 'run', string.format('%d', math.floor(now)), 'ended', '0',
  'run_at', string.format('%d', now_ms), 'run_worked_ms', number_of(key, 'worked_ms'),
  'run_worked_audio_ms', number_of(key, 'worked_audio_ms'))
return 1
