-- Stands in front of every script; producer/scripts.py defines the key prefixes RQ and FARM above.
-- ARGV[1] holds the arguments in JSON.
-- Time is the server's: the clocks of forty Macs never decide who owns a job.
local args = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6

-- The names of producer/keys.py.
local EVENTS, QUEUES, WORKERS = FARM .. ':events', RQ .. ':queues', RQ .. ':workers'
local SUSPENDED, BOOTS = RQ .. ':suspended', FARM .. ':boots'
local FACTS, ROSTER, LOST = FARM .. ':workers', FARM .. ':roster', FARM .. ':lost_workers'
local PAUSED, METRICS = FARM .. ':paused', FARM .. ':metrics'
local function result_key(job_id) return FARM .. ':result:' .. job_id end
local function progress_key(job_id) return FARM .. ':progress:' .. job_id end
local function checkpoint_key(job_id) return FARM .. ':checkpoint:' .. job_id end
local function upload_key(audio_sha256) return FARM .. ':upload:' .. audio_sha256 end
local function http_key(kind, name) return FARM .. ':http:' .. kind .. ':' .. name end
local function batch_key(batch) return FARM .. ':batch:' .. batch end
local function counts_key(batch) return FARM .. ':counts:' .. batch end
local function ended_key(batch) return FARM .. ':ended:' .. batch end
local function models_key(batch) return FARM .. ':models:' .. batch end
local function submission_key(batch) return FARM .. ':submission:' .. batch end
local function submitting_key(batch) return FARM .. ':submitting:' .. batch end
local function reported_key(batch) return FARM .. ':reported:' .. batch end
local function work_key(day) return FARM .. ':work:' .. string.format('%d', day) end
local function job_key(job_id) return RQ .. ':job:' .. job_id end
local function rq_results_key(job_id) return RQ .. ':results:' .. job_id end
local function queue_key(queue) return RQ .. ':queue:' .. queue end
local function registry_key(registry, queue) return RQ .. ':' .. registry .. ':' .. queue end
local function worker_key(worker) return RQ .. ':worker:' .. worker end
local function worker_executions_key(worker) return worker_key(worker) .. ':executions' end
local function execution_key(job_id, id) return RQ .. ':execution:' .. job_id .. ':' .. id end
local function executions_key(job_id) return RQ .. ':executions:' .. job_id end

-- Fields of a job hash; none if the key is gone or, by some other program's doing, no hash.
local function job_fields(job_id, ...)
  local reply = redis.pcall('HMGET', job_key(job_id), ...)
  return reply.err and {} or reply
end

-- Write an event. A stream that takes none keeps no job from its end: results tell it as well.
local function tell(...)
  redis.pcall('XADD', EVENTS, 'MAXLEN', '~', MAX_EVENTS, '*', ...)
end

-- The trace that a job belongs to, as in producer/traces.py; "" for none.
local function trace_id_of(job_id)
  local stored = job_fields(job_id, 'traceparent')[1] or ''
  local found = string.match(stored, '^00%-([0-9a-f]+)%-%x+%-%x%x$') or ''
  return #found == 32 and found or ''
end

-- RQ's words for jobs that ended without a transcript, as in producer/states.py.
local ENDED_BADLY = {failed = true, stopped = true, canceled = true}

-- The queues of these names, and those of each model that has ever had jobs: QUEUE@MODEL@REVISION.
local function farm_queues(names)
  local ours, found, known = {}, {}, {}
  for _, name in ipairs(names) do
    ours[name], known[name] = true, true
    found[#found + 1] = name
  end
  local prefix = queue_key('')
  for _, key in ipairs(redis.call('SMEMBERS', QUEUES)) do
    local name = string.sub(key, #prefix + 1)
    if ours[string.match(name, '^[^@]*')] and not known[name] then
      known[name] = true
      found[#found + 1] = name
    end
  end
  return found
end

-- Take a job out of the registries of jobs that have ended.
local function leave_registries_of_ended(job_id, queue)
  for _, registry in ipairs({'failed', 'canceled', 'finished'}) do
    redis.call('ZREM', registry_key(registry, queue), job_id)
  end
end

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

-- The inverse: seconds since the epoch of such a stamp, nil for what is none. Minutes are
-- remembered: thousands of jobs share them.
local minutes = {}
local function minute_of(text)
  local year, month, day, hour, minute = text:match('^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d)$')
  if not year then return false end
  year, month = tonumber(year), tonumber(month)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local yoe = year - era * 400
  local doy = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + tonumber(day) - 1
  local doe = yoe * 365 + math.floor(yoe / 4) - math.floor(yoe / 100) + doy
  return ((era * 146097 + doe - 719468) * 24 + tonumber(hour)) * 3600 + tonumber(minute) * 60
end
local function seconds_of(text)
  if not text then return nil end
  local head = string.sub(text, 1, 16)
  if minutes[head] == nil then minutes[head] = minute_of(head) end
  local minute, rest = minutes[head], tonumber(string.sub(text, 18, 26))
  return minute and rest and minute + rest or nil
end
