-- Enqueue failed jobs again, under the same ids. A job that is not at an end any more is left
-- alone, so two people may do this at once.
-- KEYS: for each job its job, result, progress, checkpoint and RQ results keys.
-- ARGV: RQ prefix, now, job TTL, then for each job its id. Answers 1 or 0 for each job.
local prefix, now, job_ttl = ARGV[1], ARGV[2], ARGV[3]
local ended = {failed = true, stopped = true, canceled = true}
local answer = {}
for i = 1, #ARGV - 3 do
  local job, id = KEYS[5 * i - 4], ARGV[3 + i]
  local status, origin = unpack(redis.call('HMGET', job, 'status', 'origin'))
  answer[i] = 0
  if ended[status or ''] and origin then
    for _, registry in ipairs({'failed', 'canceled', 'finished'}) do
      redis.call('ZREM', prefix .. ':' .. registry .. ':' .. origin, id)
    end
    redis.call('DEL', KEYS[5 * i - 3], KEYS[5 * i - 2], KEYS[5 * i - 1], KEYS[5 * i])
    redis.call('HDEL', job, 'code', 'audio_s', 'num_flagged', 'started_at', 'ended_at', 'cancel',
      'worker_name', 'fence')
    redis.call('HSET', job, 'status', 'queued', 'enqueued_at', now)
    redis.call('EXPIRE', job, job_ttl)
    redis.call('RPUSH', prefix .. ':queue:' .. origin, id)
    answer[i] = 1
  end
end
return answer
