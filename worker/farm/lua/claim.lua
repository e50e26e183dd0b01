-- Take up to args.limit queued jobs for args.worker: pop, mark as started, fence and lease in one
-- step, so that no death of a worker or server falls between. A job counts only if its hash says
-- `queued`: entries of cancelled, expired or doubly enqueued jobs are dropped.
--
-- args.levels are queues in order of priority; those of one level (for any model, for this worker's)
-- are taken in turn. Every args.reserve-th claim starts at one of the lower levels, each in turn: a
-- full first level slows the others down and never starves them.
--
-- A job whose last worker died is a suspect. Only args.suspects of them run here at once, the
-- others are put back: a recording that kills its worker can then be told from its neighbours.
-- Answer: {{job id, execution id, queue, now, fields}, ...}; {job id} for one that was set aside.
local MAX_HELD, MAX_DROPPED = 64, 1000
local claimed, held, aside, num_dropped = {}, {}, {}, 0

local function pop_level(queues, turn)
  for i = 0, #queues - 1 do
    local queue = queues[1 + (turn + i) % #queues]
    local job_id = redis.call('LPOP', queue_key(queue))
    if job_id then return queue, job_id end
  end
end

local function pop(turn)
  local num_levels, first = #args.levels, 1
  if num_levels > 1 and turn % args.reserve == args.reserve - 1 then
    -- Counted in reserved turns, so that each level begins with each of its queues in turn.
    turn = math.floor(turn / args.reserve)
    first = 2 + turn % (num_levels - 1)
    turn = math.floor(turn / (num_levels - 1))
  end
  for i = 0, num_levels - 1 do
    -- From the reserved level on, then the higher ones in their own order.
    local index = i == 0 and first or (i < first and i or i + 1)
    local queue, job_id = pop_level(args.levels[index], turn)
    if job_id then return queue, job_id end
  end
end

local function start(job_id, execution_id, queue)
  redis.call('HSET', job_key(job_id), 'status', 'started', 'fence', execution_id,
    'origin', queue, 'worker_name', args.worker, 'started_at', stamp(now),
    'last_heartbeat', stamp(now))
  redis.call('HDEL', job_key(job_id), 'lost_worker', 'ended_at')
  redis.call('PERSIST', job_key(job_id))
  count_job(job_id)
  -- `rq empty` may have taken it out; by it peers find the lease when this worker dies.
  redis.call('SADD', QUEUES, queue_key(queue))
  lease(job_id, execution_id, queue, args.worker)
end

if redis.call('EXISTS', SUSPENDED) == 1 or paused_until(args.worker) then return {} end
local suspects = args.suspects
while #claimed < args.limit and #held < MAX_HELD and num_dropped < MAX_DROPPED do
  local queue, job_id = pop(args.turn + #claimed)
  if not job_id then break end
  local is_suspect = number_in(job_id, 'deaths') > 0
  if job_fields(job_id, 'status')[1] ~= 'queued' then
    num_dropped = num_dropped + 1
  elseif not is_plain(job_id) then
    set_aside(job_id, '', queue, args.worker)
    aside[#aside + 1], num_dropped = {job_id}, num_dropped + 1
  elseif is_suspect and suspects == 0 then
    held[#held + 1] = {queue, job_id}
  else
    if is_suspect then suspects = suspects - 1 end
    local execution_id = args.execution_ids[#claimed + 1]
    start(job_id, execution_id, queue)
    claimed[#claimed + 1] =
      {job_id, execution_id, queue, string.format('%.6f', now), read_fields(job_id)}
  end
end
for i = #held, 1, -1 do redis.call('LPUSH', queue_key(held[i][1]), held[i][2]) end
for _, each in ipairs(aside) do claimed[#claimed + 1] = each end
return claimed
