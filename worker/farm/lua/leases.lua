-- Jobs in hand: who holds one, and RQ's records of it. In front of every script of the farm, behind
-- producer/lua/prelude.lua.

-- Whether the job's key is there, and a hash.
local function has_hash(job_id)
  local reply = redis.pcall('HEXISTS', job_key(job_id), 'status')
  return type(reply) == 'number' and redis.call('EXISTS', job_key(job_id)) == 1
end

-- A counter or a time of the hash; 0 for what is none: below 0, beyond ten years of seconds, NaN.
local MAX_NUMBER = 315360000
local function number_in(job_id, field)
  local number = tonumber(job_fields(job_id, field)[1] or nil) or 0
  return number >= 0 and number <= MAX_NUMBER and number or 0
end

-- Write to a key of one job. If another program has made it another type it is replaced: the keys
-- of one job stop no script in the middle.
local function write_own(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply) end
    redis.call('DEL', key)
    reply = redis.call(command, key, ...)
  end
  return reply
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
  write_own('ZADD', executions_key(job_id), ends, execution_id)
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
  write_own('ZREM', executions_key(job_id), execution_id)
  redis.call('SREM', worker_executions_key(worker), entry)
end

-- RQ takes no other ids, and the worker could not name them to us again.
local function is_plain(id) return string.find(id, '^[%w_-]+$') ~= nil end

-- Take a job that can neither be run nor be ended out of the way, for good: it counts as failed.
local function set_aside(job_id, execution_id, queue, worker)
  forget(job_id, execution_id, queue, worker)
  redis.call('ZREM', registry_key('scheduled', queue), job_id)
  if has_hash(job_id) then
    redis.call('HSET', job_key(job_id), 'status', 'failed', 'code', 'internal', 'audio_s', '0',
      'num_flagged', '0', 'ended_at', stamp(now))
    redis.call('HDEL', job_key(job_id), 'fence', 'lost_worker', 'deaths', 'tries')
    redis.call('EXPIRE', job_key(job_id), args.ttl_s)
    count_job(job_id)
  end
  redis.call('DEL', progress_key(job_id), checkpoint_key(job_id))
  if is_plain(job_id) then
    tell('job_id', job_id, 'status', 'failed', 'code', 'internal', 'worker', worker, 'batch', '')
    count_end({queue = queue, outcome = 'failed', code = 'internal'})
  end
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
