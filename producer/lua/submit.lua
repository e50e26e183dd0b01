-- Enqueue the jobs that are new, and answer the state of the others: at most BATCH_SIZE at a time.
-- args: counted_queues (their waiting jobs, of all models, count against the limit), limit,
-- job_ttl_s, result_ttl_s, resubmit_failed, batch (nil for none),
-- jobs ({{job id, name in the batch, queue, hash of the audio}, ...}).
-- ARGV[2] and behind it: RQ's data of each job.
-- Answer: {"full", waiting} or {"ok", state, is_new, state, is_new, ...}.
local function must_enqueue(job_id, status, audio_sha256)
  if not status then return true end
  if status == 'finished' then
    -- The hash stands there only if the worker read other audio than the id was made of.
    local read = redis.call('HGET', job_key(job_id), 'audio_sha256')
    if read and read ~= audio_sha256 then return true end
    return redis.call('EXISTS', result_key(job_id)) == 0
  end
  return ENDED_BADLY[status] and args.resubmit_failed
end

local function forget_earlier_run(job_id)
  local queue = redis.call('HGET', job_key(job_id), 'origin') or ''
  leave_registries_of_ended(job_id, queue)
  redis.call('DEL', job_key(job_id), result_key(job_id), progress_key(job_id),
    rq_results_key(job_id))
end

local enqueued_at = stamp(now)
local function enqueue(job_id, queue, data)
  redis.call('HSET', job_key(job_id), 'created_at', enqueued_at, 'enqueued_at', enqueued_at,
    'origin', queue, 'data', data, 'status', 'queued', 'ttl', args.job_ttl_s,
    'result_ttl', args.result_ttl_s, 'failure_ttl', args.result_ttl_s)
  redis.call('EXPIRE', job_key(job_id), args.job_ttl_s)
  redis.call('RPUSH', queue_key(queue), job_id)
  redis.call('SADD', QUEUES, queue_key(queue))
end

local seen, num_new = {}, 0
for _, job in ipairs(args.jobs) do
  local job_id = job[1]
  if not seen[job_id] then
    seen[job_id] = true
    if must_enqueue(job_id, redis.call('HGET', job_key(job_id), 'status'), job[4]) then
      num_new = num_new + 1
    end
  end
end
local waiting = 0
for _, queue in ipairs(farm_queues(args.counted_queues)) do
  waiting = waiting + redis.call('LLEN', queue_key(queue))
end
if num_new > 0 and waiting + num_new > args.limit then return {'full', waiting} end

local answer = {'ok'}
for i, job in ipairs(args.jobs) do
  local job_id, name, queue, audio_sha256 = unpack(job)
  local status, is_new = redis.call('HGET', job_key(job_id), 'status'), 0
  if must_enqueue(job_id, status, audio_sha256) then
    if status then forget_earlier_run(job_id) end
    enqueue(job_id, queue, ARGV[i + 1])
    status, is_new = 'queued', 1
  end
  if args.batch then
    redis.call('HSET', batch_key(args.batch), name, job_id)
    redis.call('SADD', models_key(args.batch), string.match(queue, '@(.*)$') or '')
  end
  answer[#answer + 1] = status
  answer[#answer + 1] = is_new
end
if args.batch then
  redis.call('EXPIRE', models_key(args.batch), args.result_ttl_s)
  redis.call('EXPIRE', batch_key(args.batch), args.result_ttl_s)
end
return answer
