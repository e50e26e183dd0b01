-- Stop jobs: one that waits ends now, with the result that the caller brings; one that runs is
-- marked and its worker ends it at the next heartbeat.
-- KEYS: events, then for each job its job and result keys.
-- ARGV: RQ prefix, now, now in seconds, TTL, most events, then for each job its id, its result and
-- its batch. Answers "cancelled", "cancelling" or "" (at an end already, or unknown) for each job.
local prefix, now, now_s, ttl, max_events = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local waits = {queued = true, scheduled = true, deferred = true, created = true}
local answer = {}
for i = 1, (#ARGV - 5) / 3 do
  local job, result = KEYS[2 * i], KEYS[2 * i + 1]
  local id, stored, batch = ARGV[3 * i + 3], ARGV[3 * i + 4], ARGV[3 * i + 5]
  local status, origin = unpack(redis.call('HMGET', job, 'status', 'origin'))
  answer[i] = ''
  if status == 'started' then
    redis.call('HSET', job, 'cancel', '1')
    answer[i] = 'cancelling'
  elseif waits[status or ''] and origin then
    for _, registry in ipairs({'scheduled', 'deferred'}) do
      redis.call('ZREM', prefix .. ':' .. registry .. ':' .. origin, id)
    end
    redis.call('HSET', job, 'status', 'canceled', 'ended_at', now, 'code', 'cancelled',
      'audio_s', '0', 'num_flagged', '0')
    redis.call('EXPIRE', job, ttl)
    redis.call('ZADD', prefix .. ':canceled:' .. origin, now_s + tonumber(ttl), id)
    redis.call('SET', result, stored, 'EX', ttl)
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', max_events, '*', 'job_id', id,
      'status', 'failed', 'code', 'cancelled', 'worker', '', 'batch', batch)
    answer[i] = 'cancelled'
  end
end
return answer
