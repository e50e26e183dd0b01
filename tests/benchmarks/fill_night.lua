-- Jobs as a finished night leaves them, made where they are kept: sending them would take minutes.
-- What they end with is counted and recorded by the scripts that all of them go through.
-- args: batch, first, count, began (seconds since the epoch), ttl_s.
ensure_counts(args.batch, args.ttl_s)
for i = args.first, args.first + args.count - 1 do
  local id = string.sub(redis.sha1hex(tostring(i)), 1, 32)
  local failed = i % 100 == 7
  local start = args.began + math.floor(i / 40) * 1.2
  redis.call('HSET', job_key(id), 'created_at', stamp(start), 'enqueued_at', stamp(start), 'origin',
    'default', 'data', string.rep('x', 250), 'status', failed and 'failed' or 'finished',
    'ttl', '604800', 'result_ttl', '7776000', 'failure_ttl', '7776000', 'worker_name',
    'mac-' .. (i % 40), 'started_at', stamp(start), 'ended_at', stamp(start + 1.1), 'code',
    failed and 'corrupt_audio' or '', 'audio_s', failed and '0' or '45.500', 'num_flagged',
    i % 50 == 3 and '2' or '0', 'is_empty', i % 1000 == 9 and '1' or '0', 'flags', '', 'model',
    failed and '' or 'turbo@main', 'language', failed and '' or (i % 3 == 0 and 'de' or 'en'))
  redis.call('HSET', batch_key(args.batch),
    string.format('archive/2026/%04d/tape %07d.wav', math.floor(i / 1000), i), id)
  join_batch(id, args.batch)
end
return 1
