-- What monitors need of the queues, and all counters: the same work for a million jobs as for none.
-- args: queues (each stands for all models' too), max_queues.
-- Answer: {now, 1 if the farm is paused, {{queue, waiting, in hand, delayed, deferred, when the oldest
-- was enqueued or ""}, ...}, queues left out, {field, value, ...} of the counters}.
local NUM_HEADS, MAX_BYTES = 5, 200

local function count(command, key)
  local number = redis.pcall(command, key)
  return type(number) == 'number' and number or 0
end

-- Jobs that were deleted may stand in front; who was put back to the front has waited longest.
local function oldest(queue)
  local heads = redis.pcall('LRANGE', queue_key(queue), 0, NUM_HEADS - 1)
  for _, job_id in ipairs(heads.err and {} or heads) do
    local enqueued = job_fields(job_id, 'enqueued_at')[1]
    if enqueued then return string.sub(enqueued, 1, 40) end
  end
  return ''
end

local queues, left_out = {}, 0
for _, queue in ipairs(farm_queues(args.queues)) do
  if #queues >= args.max_queues then
    left_out = left_out + 1
  else
    queues[#queues + 1] = {string.sub(queue, 1, MAX_BYTES), count('LLEN', queue_key(queue)),
      count('ZCARD', registry_key('wip', queue)), count('ZCARD', registry_key('scheduled', queue)),
      count('ZCARD', registry_key('deferred', queue)), oldest(queue)}
  end
end

local counters = {}
if count('HLEN', METRICS) <= MAX_FIELDS + 1 then
  local stored = redis.pcall('HGETALL', METRICS)
  for i, value in ipairs(stored.err and {} or stored) do
    counters[i] = string.sub(value, 1, 4 * MAX_BYTES)
  end
end
return {string.format('%.6f', now), redis.call('EXISTS', SUSPENDED), queues, left_out, counters}
