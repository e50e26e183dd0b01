-- Enqueue what is new, answer where the rest stands: atomic, for up to BATCH_SIZE jobs.
-- KEYS: queue, queues, batch, then `num_waiting` queues that count against the limit, then for
-- each job its job, result, progress and RQ results keys.
-- ARGV: num_waiting, limit, job TTL, resubmit_failed, now, queue name, result TTL, has_batch,
-- RQ prefix, then for each job its id, data and name in the batch.
-- Answers {"full", waiting} or {"ok", state, is_new, state, is_new, ...}.
local num_waiting, limit, job_ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local resubmit_failed, now, queue, result_ttl = ARGV[4] == '1', ARGV[5], ARGV[6], ARGV[7]
local has_batch, prefix = ARGV[8] == '1', ARGV[9]
local first_key, first_arg = 3 + num_waiting, 9
local num_jobs = (#ARGV - first_arg) / 3

local function must_enqueue(state, result)
  if not state then return true end
  if state == 'finished' then return redis.call('EXISTS', result) == 0 end
  if state == 'failed' or state == 'stopped' or state == 'canceled' then
    return resubmit_failed
  end
  return false
end

local seen, num_new = {}, 0
for i = 0, num_jobs - 1 do
  local job = KEYS[first_key + 4 * i + 1]
  if not seen[job] then
    seen[job] = true
    if must_enqueue(redis.call('HGET', job, 'status'), KEYS[first_key + 4 * i + 2]) then
      num_new = num_new + 1
    end
  end
end
local waiting = 0
for i = 1, num_waiting do waiting = waiting + redis.call('LLEN', KEYS[3 + i]) end
if num_new > 0 and waiting + num_new > limit then return {'full', waiting} end

local answer = {'ok'}
for i = 0, num_jobs - 1 do
  local job, result = KEYS[first_key + 4 * i + 1], KEYS[first_key + 4 * i + 2]
  local progress, rq_results = KEYS[first_key + 4 * i + 3], KEYS[first_key + 4 * i + 4]
  local id, data, name = ARGV[first_arg + 3 * i + 1], ARGV[first_arg + 3 * i + 2],
    ARGV[first_arg + 3 * i + 3]
  local state, is_new = redis.call('HGET', job, 'status'), 0
  if must_enqueue(state, result) then
    if state then
      local origin = redis.call('HGET', job, 'origin') or queue
      for _, registry in ipairs({'failed', 'canceled', 'finished'}) do
        redis.call('ZREM', prefix .. ':' .. registry .. ':' .. origin, id)
      end
      redis.call('DEL', job, result, progress, rq_results)
    end
    redis.call('HSET', job, 'created_at', now, 'enqueued_at', now, 'origin', queue,
      'data', data, 'status', 'queued', 'ttl', job_ttl,
      'result_ttl', result_ttl, 'failure_ttl', result_ttl)
    redis.call('EXPIRE', job, job_ttl)
    redis.call('RPUSH', KEYS[1], id)
    state, is_new = 'queued', 1
  end
  if has_batch then redis.call('HSET', KEYS[3], name, id) end
  answer[#answer + 1] = state
  answer[#answer + 1] = is_new
end
if has_batch then redis.call('EXPIRE', KEYS[3], result_ttl) end
redis.call('SADD', KEYS[2], KEYS[1])
return answer
