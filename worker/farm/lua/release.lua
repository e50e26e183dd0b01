-- Give jobs back to their queues: at once to the front or the back, or after a delay. A record of
-- what went wrong spends a try; without one (a drained worker) none is spent. A job with to_queue
-- goes there, to its place by the time at which it was enqueued; one that drifted starts over there,
-- under a mark by which every worker knows that it is for another model than it names.
-- args.jobs: {{job_id, execution_id, queue, delay_s, at_front, record, died, checkpoint, to_queue,
-- drifted}, ...}.
-- Answer: ids of the executions that were still ours to give back.
local MAX_ATTEMPTS_BYTES = 65536
-- A place is looked for among so many jobs at the head: those in front of a routed job are few, as
-- it was at the head of the queue from which it comes.
local MAX_LOOKED_AT = 64
local released = {}

local function spend_try(key, job)
  local attempts = redis.call('HGET', key, 'attempts') or ''
  if #attempts < MAX_ATTEMPTS_BYTES then
    redis.call('HSET', key, 'attempts', attempts .. job.record .. '\n')
  end
  redis.call('HSET', key, 'tries', number_in(job.job_id, 'tries') + 1)
  local is_json, record = pcall(cjson.decode, job.record)
  count_metric('retries|' .. label_value(is_json and record.code), 1)
  if job.died then redis.call('HSET', key, 'deaths', number_in(job.job_id, 'deaths') + 1) end
  local left = number_in(job.job_id, 'retries_left')
  if left > 0 then redis.call('HSET', key, 'retries_left', left - 1) end
end

local function route(key, job)
  local list, enqueued_at = queue_key(job.to_queue), redis.call('HGET', key, 'enqueued_at') or ''
  redis.call('HSET', key, 'status', 'queued', 'origin', job.to_queue)
  redis.call('SADD', QUEUES, list)
  for _, other in ipairs(redis.call('LRANGE', list, 0, MAX_LOOKED_AT - 1)) do
    if (job_fields(other, 'enqueued_at')[1] or '') > enqueued_at then
      redis.call('LINSERT', list, 'BEFORE', other, job.job_id)
      return
    end
  end
  redis.call('RPUSH', list, job.job_id)
end

local function requeue(key, job)
  if job.to_queue ~= '' then return route(key, job) end
  if job.delay_s > 0 then
    redis.call('HSET', key, 'status', 'scheduled')
    redis.call('ZADD', registry_key('scheduled', job.queue), math.ceil(now + job.delay_s),
      job.job_id)
  else
    redis.call('HSET', key, 'status', 'queued')
    redis.call(job.at_front and 'LPUSH' or 'RPUSH', queue_key(job.queue), job.job_id)
  end
  redis.call('SADD', QUEUES, queue_key(job.queue))
end

local function hand_on(key, job)
  redis.call('HSET', key, 'drifted', '1')
  redis.call('DEL', checkpoint_key(job.job_id))
  local model = string.match(job.to_queue, '@(.*)$') or ''
  -- A batch that was deleted has no more use for it, and lives no longer for it.
  for batch in pairs(batches_of(job.job_id)) do
    if redis.call('EXISTS', models_key(batch)) == 1 then
      redis.pcall('SADD', models_key(batch), model)
    end
  end
end

for _, job in ipairs(args.jobs) do
  local key = job_key(job.job_id)
  if holds(job.job_id, job.execution_id) then
    forget(job.job_id, job.execution_id, job.queue, args.worker)
    redis.call('HDEL', key, 'fence', 'lost_worker', 'worker_name', 'started_at')
    if job.record ~= '' then spend_try(key, job) end
    if job.checkpoint ~= '' then
      redis.call('SET', checkpoint_key(job.job_id), job.checkpoint, 'EX', args.ttl_s)
    end
    if job.drifted then hand_on(key, job) end
    requeue(key, job)
    count_job(job.job_id)
    local ttl = number_in(job.job_id, 'ttl')
    if ttl > 0 then redis.call('EXPIRE', key, math.ceil(ttl)) end
    released[#released + 1] = job.execution_id
  end
end
return released
