-- Renew every lease of a worker, and its own record, in one call.
-- ARGV[2]: what it says of itself, JSON as in producer/worker_records.py.
-- Answer: {lost execution ids, execution ids to cancel, {{job id, execution id, queue, now,
-- fields}, ...} that the server holds for this worker and the worker does not know: claims whose
-- reply was lost; {job id} for one that was set aside}, 1 if the farm or this worker is paused}.
local record = worker_key(args.worker)
note_boot()
local lost, cancelled, unknown, known = {}, {}, {}, {}

local batches = {}
local function note_batches(job_id)
  for batch in pairs(batches_of(job_id)) do batches[batch] = true end
end

for _, execution in ipairs(args.executions) do
  local job_id, execution_id, queue = unpack(execution)
  known[job_id .. ':' .. execution_id] = true
  if holds(job_id, execution_id) then
    lease(job_id, execution_id, queue, args.worker)
    redis.call('HSET', job_key(job_id), 'last_heartbeat', stamp(now))
    note_batches(job_id)
    if redis.call('HEXISTS', job_key(job_id), 'cancel') == 1 then
      cancelled[#cancelled + 1] = execution_id
    end
  else
    forget(job_id, execution_id, queue, args.worker)
    lost[#lost + 1] = execution_id
  end
end

for _, entry in ipairs(redis.call('SMEMBERS', worker_executions_key(args.worker))) do
  if not known[entry] then
    local job_id, execution_id = split(entry)
    local queue = job_fields(job_id, 'origin')[1] or ''
    if holds(job_id, execution_id) and not (is_plain(job_id) and is_plain(execution_id)) then
      set_aside(job_id, execution_id, queue, args.worker)
      unknown[#unknown + 1] = {job_id}
    elseif holds(job_id, execution_id) then
      lease(job_id, execution_id, queue, args.worker)
      unknown[#unknown + 1] =
        {job_id, execution_id, queue, string.format('%.6f', now), read_fields(job_id)}
    else
      forget(job_id, execution_id, queue, args.worker)
    end
  end
end

for batch in pairs(batches) do touch(batch) end
for field, value in pairs(args.record) do redis.call('HSET', record, field, value) end
redis.call('HSET', record, 'last_heartbeat', stamp(now))
redis.call('EXPIRE', record, args.worker_ttl_s)
redis.call('SADD', WORKERS, record)
for _, queue in ipairs(args.queues) do
  redis.call('SADD', WORKERS .. ':' .. queue, record)
end
note_worker(args.worker, ARGV[2], args.lease_s)
local is_paused = redis.call('EXISTS', SUSPENDED) == 1 or paused_until(args.worker) ~= nil
return {lost, cancelled, unknown, is_paused and 1 or 0}
