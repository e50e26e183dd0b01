-- Jobs in hand: who holds one, and RQ's records of it. In front of every script of the farm, behind
-- producer/lua/prelude.lua.

-- Fields of a job hash; none if the key is gone or, by some other program's doing, no hash.
local function job_fields(job_id, ...)
  local reply = redis.pcall('HMGET', job_key(job_id), ...)
  return reply.err and {} or reply
end

local function number_in(job_id, field)
  return tonumber(job_fields(job_id, field)[1] or nil) or 0
end

-- True while this execution, and no later one, owns the job.
local function holds(job_id, execution_id)
  local job = job_fields(job_id, 'status', 'fence')
  return job[1] == 'started' and job[2] == execution_id
end

-- RQ's records of one execution, alive until the lease ends. The score in the registry of started
-- jobs is later than the lease by args.margin_s, so that RQ's own clean-up, which any `rq info`
-- runs and which fails jobs instead of handing them on, never comes before ours.
local function lease(job_id, execution_id, queue, worker)
  local entry = job_id .. ':' .. execution_id
  local execution = execution_key(job_id, execution_id)
  redis.call('HSET', execution, 'id', execution_id, 'job_id', job_id, 'worker_name', worker,
    'boot', args.boot, 'created_at', string.format('%.6f', now), 'last_heartbeat', string.format('%.6f', now))
  redis.call('EXPIRE', execution, math.ceil(args.lease_s + args.margin_s))
  local ends = string.format('%.6f', now + args.lease_s + args.margin_s)
  redis.call('ZADD', registry_key('wip', queue), ends, entry)
  redis.call('ZADD', executions_key(job_id), ends, execution_id)
  redis.call('EXPIRE', executions_key(job_id), math.ceil(args.lease_s + args.margin_s))
  redis.call('SADD', worker_executions_key(worker), entry)
  redis.call('EXPIRE', worker_executions_key(worker), math.ceil(args.lease_s + args.margin_s))
end

-- Note that this worker's machine is up, and has been since the start that args.boot names.
local function note_boot()
  local KEPT_S = 7 * 86400
  redis.call('ZADD', BOOTS, string.format('%.6f', now), args.boot)
  redis.call('ZREMRANGEBYSCORE', BOOTS, 0, now - KEPT_S)
  redis.call('EXPIRE', BOOTS, KEPT_S)
end

-- Note that a worker died with a job, whose lease ended at lease_end on the machine start `boot`. A
-- death is excused until that same start is heard of after lease_end: until then the machine may
-- have gone down, by itself or by a restart, and the recording had no part in it.
local function note_death(job_id, boot, lease_end)
  local key, excused = job_key(job_id), 0
  local log = (job_fields(job_id, 'death_log')[1] or '')
    .. string.format('%.6f %s\n', lease_end, boot)
  for ended, start in string.gmatch(log, '(%S+) (%S+)\n') do
    local heard = redis.call('ZSCORE', BOOTS, start)
    if not heard or tonumber(heard) <= tonumber(ended) then excused = excused + 1 end
  end
  redis.call('HSET', key, 'deaths', number_in(job_id, 'deaths') + 1, 'excused', excused,
    'death_log', log)
end

local function split(entry)
  local job_id, execution_id = string.match(entry, '^(.*):(.*)$')
  return job_id or entry, execution_id or ''
end

local function forget(job_id, execution_id, queue, worker)
  local entry = job_id .. ':' .. execution_id
  redis.call('DEL', execution_key(job_id, execution_id))
  redis.call('ZREM', registry_key('wip', queue), entry)
  redis.call('ZREM', executions_key(job_id), execution_id)
  redis.call('SREM', worker_executions_key(worker), entry)
end

-- The fields of a job hash that the worker reads. A field larger than the limit is not sent: its
-- place is empty and its name comes first.
local function read_fields(job_id)
  local oversized, values = '', {}
  for i, name in ipairs(args.fields) do
    if redis.call('HSTRLEN', job_key(job_id), name) > args.max_field_bytes then
      oversized, values[i] = name, ''
    else
      values[i] = redis.call('HGET', job_key(job_id), name) or ''
    end
  end
  return {oversized, unpack(values)}
end
