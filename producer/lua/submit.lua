-- Enqueue the jobs that are new, and answer the state of the others: at most BATCH_SIZE at a time.
-- args: counted_queues (their waiting jobs, of all models, count against the limit), limit,
-- job_ttl_s, result_ttl_s, resubmit_failed, traceparent, batch (nil for none),
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

-- Forget a job's last end, and keep what it counts as until it is queued again.
local function forget_earlier_run(job_id)
  local counted = redis.call('HMGET', job_key(job_id), 'batches', 'counted')
  local queue = redis.call('HGET', job_key(job_id), 'origin') or ''
  leave_registries_of_ended(job_id, queue)
  redis.call('DEL', job_key(job_id), result_key(job_id), progress_key(job_id),
    rq_results_key(job_id))
  if counted[1] and counted[2] then
    redis.call('HSET', job_key(job_id), 'batches', counted[1], 'counted', counted[2])
  end
end

-- Most jobs are new, and so is their name: these are counted together at the end.
local joined, new_entries = {}, nil

local enqueued_at = stamp(now)
local function enqueue(job_id, queue, data)
  redis.call('HSET', job_key(job_id), 'created_at', enqueued_at, 'enqueued_at', enqueued_at,
    'origin', queue, 'data', data, 'status', 'queued', 'ttl', args.job_ttl_s,
    'result_ttl', args.result_ttl_s, 'failure_ttl', args.result_ttl_s,
    'traceparent', args.traceparent)
  redis.call('EXPIRE', job_key(job_id), args.job_ttl_s)
  redis.call('RPUSH', queue_key(queue), job_id)
  redis.call('SADD', QUEUES, queue_key(queue))
end

-- Let a name of the batch stand for this job, which the server had not known if `is_first`.
local function put_in_batch(job_id, name, is_first)
  local earlier = redis.call('HGET', batch_key(args.batch), name)
  if is_first and not earlier and new_entries then
    redis.call('HSET', batch_key(args.batch), name, job_id)
    redis.call('HSET', job_key(job_id), 'batches', new_entries, 'counted', 'queued')
    joined[#joined + 1] = job_id
    return
  end
  if earlier == job_id then
    -- As what a job still counts that had expired, nobody knows.
    if not is_counted(job_id, args.batch) then mark_dirty(args.batch) end
    return
  end
  -- Whether a count that is under way will come upon the new name is not certain.
  if not field(counts_key(args.batch), 'counted_at') then mark_dirty(args.batch) end
  if earlier then leave_batch(earlier, args.batch) end
  redis.call('HSET', batch_key(args.batch), name, job_id)
  join_batch(job_id, args.batch)
end

local seen, num_new = {}, 0
for _, job in ipairs(args.jobs) do
  local job_id = job[1]
  if not seen[job_id] then
    seen[job_id] = true
    if must_enqueue(job_id, job_fields(job_id, 'status')[1], job[4]) then
      num_new = num_new + 1
    end
  end
end
local waiting = 0
for _, queue in ipairs(farm_queues(args.counted_queues)) do
  waiting = waiting + redis.call('LLEN', queue_key(queue))
end
if num_new > 0 and waiting + num_new > args.limit then return {'full', waiting} end

if args.batch then
  ensure_counts(args.batch, args.result_ttl_s)
  -- Not while the batch is being counted anew.
  if field(counts_key(args.batch), 'counted_at') then
    new_entries = cjson.encode({[args.batch] = {1, epoch_of(args.batch)}})
  end
end
local answer = {'ok'}
for i, job in ipairs(args.jobs) do
  local job_id, name, queue, audio_sha256 = unpack(job)
  local status, is_new = job_fields(job_id, 'status')[1], 0
  local is_first = not status
  if must_enqueue(job_id, status, audio_sha256) then
    if status then
      forget_earlier_run(job_id)
    elseif redis.call('EXISTS', job_key(job_id)) == 1 then
      -- Another type, or no job. Only then: after a first write a full server refuses no other.
      redis.call('DEL', job_key(job_id))
    end
    enqueue(job_id, queue, ARGV[i + 1])
    if status then count_job(job_id) end
    status, is_new = 'queued', 1
  end
  if args.batch then
    put_in_batch(job_id, name, is_first)
    redis.call('SADD', models_key(args.batch), string.match(queue, '@(.*)$') or '')
  end
  answer[#answer + 1] = status
  answer[#answer + 1] = is_new
end
if #joined > 0 then
  redis.call('HINCRBY', counts_key(args.batch), 'queued', #joined)
  -- Of jobs that had ended and expired.
  redis.pcall('HDEL', ended_key(args.batch), unpack(joined))
end
if args.batch then
  redis.call('EXPIRE', models_key(args.batch), args.result_ttl_s)
  redis.call('EXPIRE', batch_key(args.batch), args.result_ttl_s)
end
return answer
