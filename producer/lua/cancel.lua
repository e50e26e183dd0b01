-- Stop jobs: one that waits ends now, with the result that the caller brings; one that runs is
-- marked and its worker ends it at the next heartbeat.
-- args: ttl_s, jobs ({{job id, result, batch}, ...}).
-- Answer: "cancelled", "cancelling" or "" (at an end already, or unknown) for each job.
local WAITS = {queued = true, scheduled = true, deferred = true, created = true}

local function cancel(job_id, queue, result, batch)
  for _, registry in ipairs({'scheduled', 'deferred'}) do
    redis.call('ZREM', registry_key(registry, queue), job_id)
  end
  redis.call('HSET', job_key(job_id), 'status', 'canceled', 'ended_at', stamp(now),
    'code', 'cancelled', 'audio_s', '0', 'num_flagged', '0')
  redis.call('EXPIRE', job_key(job_id), args.ttl_s)
  redis.call('ZADD', registry_key('canceled', queue), string.format('%.6f', now + args.ttl_s),
    job_id)
  redis.call('SET', result_key(job_id), result, 'EX', args.ttl_s)
  tell('job_id', job_id, 'status', 'failed', 'code', 'cancelled', 'worker', '', 'batch', batch,
    'trace_id', trace_id_of(job_id))
  count_end({queue = queue, outcome = 'failed', code = 'cancelled'})
  count_job(job_id)
end

local answer = {}
for i, job in ipairs(args.jobs) do
  local job_id, result, batch = unpack(job)
  local status, queue = unpack(job_fields(job_id, 'status', 'origin'))
  answer[i] = ''
  if status == 'started' then
    redis.call('HSET', job_key(job_id), 'cancel', '1')
    answer[i] = 'cancelling'
  elseif WAITS[status or ''] and queue then
    cancel(job_id, queue, result, batch)
    answer[i] = 'cancelled'
  end
end
return answer
