-- Tell of workers whose lease has run out, and take over jobs whose lease has. Each comes to args.worker under a new fence, for it to
-- decide what becomes of the job; the dead worker, should it wake, owns nothing any more. If the
-- taker dies in its turn before it has decided, that does not count against the recording. The job
-- may be of a model that the taker has not: the last worker of a model has no peers of its own.
-- Answer: {{job id, execution id, queue, now, fields}, ...}, at most args.limit; {job id} for one
-- that was set aside.
local taken = {}
note_boot()
tell_of_lost()
for _, queue in ipairs(farm_queues(args.farm)) do
  local expired = redis.call('ZRANGEBYSCORE', registry_key('wip', queue), 0,
    string.format('%.6f', now + args.margin_s), 'LIMIT', 0, args.limit)
  for _, entry in ipairs(expired) do
    local job_id, dead_id = split(entry)
    local job = job_fields(job_id, 'worker_name', 'lost_worker', 'fence')
    if holds(job_id, dead_id) and not is_plain(job_id) then
      set_aside(job_id, dead_id, queue, job[1] or '')
      taken[#taken + 1] = {job_id}
    elseif holds(job_id, dead_id) then
      if #taken == args.limit then return taken end
      local worker, execution_id = job[1] or '', args.execution_ids[#taken + 1]
      tell('kind', 'job_taken_over', 'job_id', job_id, 'status', '', 'code', 'worker_lost',
        'worker', worker, 'batch', '', 'trace_id', trace_id_of(job_id))
      count_metric('jobs_taken_over', 1)
      if not job[2] then
        redis.call('HSET', job_key(job_id), 'lost_worker', worker)
        local boot = redis.call('HGET', execution_key(job_id, dead_id), 'boot') or 'unknown'
        local score = redis.call('ZSCORE', registry_key('wip', queue), entry)
        note_death(job_id, boot, tonumber(score) - args.margin_s)
      end
      forget(job_id, dead_id, queue, worker)
      redis.call('HSET', job_key(job_id), 'fence', execution_id, 'worker_name', args.worker)
      lease(job_id, execution_id, queue, args.worker)
      taken[#taken + 1] =
        {job_id, execution_id, queue, string.format('%.6f', now), read_fields(job_id)}
    elseif job[3] or not has_hash(job_id) then
      -- A leftover of ours; without a fence it is a stock worker's job and none of our business.
      forget(job_id, dead_id, queue, job[1] or '')
    end
  end
end
return taken
