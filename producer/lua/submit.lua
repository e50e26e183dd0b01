-- Enqueue the jobs that are new, and answer the state of the others: at most BATCH_SIZE at a time.
-- args: queue, counted_queues (their waiting jobs count against the limit), limit, job_ttl_s,
-- result_ttl_s, resubmit_failed, batch (nil for none), jobs ({{job id, name in the batch}, ...}).
-- ARGV[2] and behind it: RQ's data of each job.
-- Answer: {"full", waiting} or {"ok", state, is_new, state, is_new, ...}.
local function must_enqueue(job_id, status)
  if not status then return true end
  if status == 'finished' then return redis.call('EXISTS', result_key(job_id)) == 0 end
  return ENDED_BADLY[status] and args.resubmit_failed
end

local function forget_earlier_run(job_id)
  local queue = redis.call('HGET', job_key(job_id), 'origin') or args.queue
  leave_registries_of_ended(job_id, queue)
  redis.call('DEL', job_key(job_id), result_key(job_id), progress_key(job_id),
    rq_results_key(job_id))
end

local enqueued_at = stamp(now)
local function enqueue(job_id, data)
  redis.call('HSET', job_key(job_id), 'created_at', enqueued_at, 'enqueued_at', enqueued_at,
    'origin', args.queue, 'data', data, 'status', 'queued', 'ttl', args.job_ttl_s,
    'result_ttl', args.result_ttl_s, 'failure_ttl', args.result_ttl_s)
  redis.call('EXPIRE', job_key(job_id), args.job_ttl_s)
  redis.call('RPUSH', queue_key(args.queue), job_id)
end

local seen, num_new = {}, 0
for _, job in ipairs(args.jobs) do
  local job_id = job[1]
  if not seen[job_id] then
    seen[job_id] = true
    if must_enqueue(job_id, job_fields(job_id, 'status')[1]) then
      num_new = num_new + 1
    end
  end
end
local waiting = 0
for _, queue in ipairs(args.counted_queues) do
  waiting = waiting + redis.call('LLEN', queue_key(queue))
end
if num_new > 0 and waiting + num_new > args.limit then return {'full', waiting} end

local answer = {'ok'}
for i, job in ipairs(args.jobs) do
  local job_id, name = unpack(job)
  local status, is_new = job_fields(job_id, 'status')[1], 0
  if must_enqueue(job_id, status) then
    if status then
      forget_earlier_run(job_id)
    elseif redis.call('EXISTS', job_key(job_id)) == 1 then
      -- Another type, or no job. Only then: after a first write a full server refuses no other.
      redis.call('DEL', job_key(job_id))
    end
    enqueue(job_id, ARGV[i + 1])
    status, is_new = 'queued', 1
  end
  if args.batch then redis.call('HSET', batch_key(args.batch), name, job_id) end
  answer[#answer + 1] = status
  answer[#answer + 1] = is_new
end
if args.batch then redis.call('EXPIRE', batch_key(args.batch), args.result_ttl_s) end
redis.call('SADD', QUEUES, queue_key(args.queue))
return answer
