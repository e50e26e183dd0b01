-- Queue the scheduled jobs whose time has come: delayed retries of ours, to the front since they
-- have waited once, and jobs that any RQ program scheduled with enqueue_at. Those of all models.
-- Answer: how many were queued.
local num_queued = 0
for _, queue in ipairs(farm_queues(args.farm)) do
  local scheduled = registry_key('scheduled', queue)
  local due = redis.call('ZRANGEBYSCORE', scheduled, 0, string.format('%.6f', now),
    'LIMIT', 0, args.limit)
  for _, job_id in ipairs(due) do
    redis.call('ZREM', scheduled, job_id)
    local job = job_fields(job_id, 'status', 'attempts', 'enqueue_at_front')
    if job[1] == 'scheduled' then
      redis.call('HSET', job_key(job_id), 'status', 'queued', 'origin', queue)
      redis.call('HSETNX', job_key(job_id), 'enqueued_at', stamp(now))
      local at_front = job[2] or job[3] == '1'
      redis.call(at_front and 'LPUSH' or 'RPUSH', queue_key(queue), job_id)
      count_job(job_id)
      num_queued = num_queued + 1
    end
  end
end
return num_queued
