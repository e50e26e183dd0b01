-- Shared by all scripts of the farm. ARGV[1] is RQ's key prefix, ARGV[2] the arguments in JSON.
-- Time is the server's: the clocks of forty Macs never decide who owns a job.
local prefix, args = ARGV[1], cjson.decode(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6

local function job_key(job_id) return prefix .. ':job:' .. job_id end
local function queue_key(queue) return prefix .. ':queue:' .. queue end
local function wip_key(queue) return prefix .. ':wip:' .. queue end
local function executions_key(worker) return prefix .. ':worker:' .. worker .. ':executions' end

-- Seconds since the epoch in RQ's form, YYYY-MM-DDTHH:MM:SS.ffffffZ. Days to a civil date: Howard
-- Hinnant's "chrono-compatible low-level date algorithms", with years that start in March.
local function stamp(seconds)
  local whole = math.floor(seconds)
  local days, rest = math.floor(whole / 86400), whole % 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor(
    (doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day,
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60,
    math.floor((seconds - whole) * 1e6))
end

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
  local execution = prefix .. ':execution:' .. entry
  redis.call('HSET', execution, 'id', execution_id, 'job_id', job_id, 'worker_name', worker,
    'created_at', string.format('%.6f', now), 'last_heartbeat', string.format('%.6f', now))
  redis.call('EXPIRE', execution, math.ceil(args.lease_s + args.margin_s))
  local ends = string.format('%.6f', now + args.lease_s + args.margin_s)
  redis.call('ZADD', wip_key(queue), ends, entry)
  redis.call('ZADD', prefix .. ':executions:' .. job_id, ends, execution_id)
  redis.call('EXPIRE', prefix .. ':executions:' .. job_id, math.ceil(args.lease_s + args.margin_s))
  redis.call('SADD', executions_key(worker), entry)
  redis.call('EXPIRE', executions_key(worker), math.ceil(args.lease_s + args.margin_s))
end

local function split(entry)
  local job_id, execution_id = string.match(entry, '^(.*):(.*)$')
  return job_id or entry, execution_id or ''
end

local function forget(job_id, execution_id, queue, worker)
  local entry = job_id .. ':' .. execution_id
  redis.call('DEL', prefix .. ':execution:' .. entry)
  redis.call('ZREM', wip_key(queue), entry)
  redis.call('ZREM', prefix .. ':executions:' .. job_id, execution_id)
  redis.call('SREM', executions_key(worker), entry)
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
