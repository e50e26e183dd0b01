-- Who works, what each one said of itself, who was lost, who is paused. Behind prelude.lua.
--
-- ROSTER has each worker's name by the time at which its lease runs out, LOST those that were told of
-- as lost, by when; FACTS what each said of itself, JSON as in producer/worker_records.py; PAUSED
-- names without their start's part, as "until" in seconds since the epoch or "inf".
local LOST_KEPT_S, MAX_LOST, MAX_TOLD, HOURS_KEPT_S = 86400, 200, 100, 172800

-- A worker's name without its start's own part: a dash and eight hexadecimal digits.
local HEX8 = string.rep('[0-9a-f]', 8)
local function known_as(name) return string.match(name, '^(.+)%-' .. HEX8 .. '$') or name end

local function text_at(key, field)
  local value = redis.pcall('HGET', key, field)
  return type(value) == 'string' and value or nil
end

-- What a worker said last, as a table; empty if that is nothing that can be read.
local function facts_of(name)
  local is_json, facts = pcall(cjson.decode, text_at(FACTS, name) or '')
  return is_json and type(facts) == 'table' and facts or {}
end

-- Until when a worker is paused: seconds since the epoch, math.huge, or nil. A pause that is over is
-- taken away, and told once.
local function paused_until(name)
  local stored = text_at(PAUSED, known_as(name))
  if not stored then return nil end
  local till = stored == 'inf' and math.huge or tonumber(stored) or math.huge
  if till > now then return till end
  redis.pcall('HDEL', PAUSED, known_as(name))
  tell('kind', 'worker_resumed', 'worker', known_as(name))
  return nil
end

local function tell_hours(kind, facts, till)
  -- Every worker notices; the first one of those with the same hours tells.
  local mark = redis.sha1hex(tostring(facts.active_hours) .. tostring(till))
  local key = FARM .. ':hours:' .. kind .. ':' .. mark
  local reply = redis.pcall('SET', key, '1', 'NX', 'EX', HOURS_KEPT_S)
  if type(reply) == 'table' and reply.ok then
    tell('kind', kind, 'until', type(till) == 'number' and stamp(till) or '')
  end
end

-- Keep what a worker says of itself and for how long it counts as alive; tell what has changed since
-- it said so last. A reply that was lost tells nothing twice: what was kept is what was told.
local function note_worker(name, document, lease_s)
  local is_json, facts = pcall(cjson.decode, document)
  if not is_json or type(facts) ~= 'table' then return end
  local before = facts_of(name)
  redis.pcall('HSET', FACTS, name, document)
  local is_new = redis.pcall('ZADD', ROSTER, string.format('%.6f', now + lease_s), name) == 1
  for _, key in ipairs({FACTS, ROSTER}) do redis.pcall('EXPIRE', key, 2 * LOST_KEPT_S) end
  if is_new then
    local was_lost = redis.pcall('ZREM', LOST, name) == 1
    tell('kind', was_lost and 'worker_back' or 'worker_started', 'worker', name)
  end
  if facts.is_draining == true and before.is_draining ~= true then
    tell('kind', 'worker_draining', 'worker', name)
  end
  local slept = type(before.sleeps_until_s) == 'number'
  local sleeps = type(facts.sleeps_until_s) == 'number'
  if sleeps and not slept then tell_hours('hours_closed', facts, facts.sleeps_until_s) end
  if slept and not sleeps then tell_hours('hours_opened', facts, facts.works_until_s) end
end

-- A worker ends in order: nobody will miss it. One without work ends before a heartbeat says that it
-- was asked to.
local function forget_worker(name, was_asked)
  if was_asked and facts_of(name).is_draining ~= true then
    tell('kind', 'worker_draining', 'worker', name)
  end
  local was_known = redis.pcall('ZREM', ROSTER, name) == 1
  was_known = redis.pcall('ZREM', LOST, name) == 1 or was_known
  redis.pcall('HDEL', FACTS, name)
  if was_known then tell('kind', 'worker_ended', 'worker', name) end
end

-- What a command finds in a sorted set; nothing if the key is of another type.
local function members(...)
  local found = redis.pcall(...)
  return found.err and {} or found
end

-- Forget workers that were lost longer than a day ago, or before the latest two hundred.
local function prune_lost()
  local old = members('ZRANGEBYSCORE', LOST, 0, now - LOST_KEPT_S)
  for _, name in ipairs(members('ZRANGE', LOST, 0, -MAX_LOST - 1)) do old[#old + 1] = name end
  for _, name in ipairs(old) do
    redis.pcall('ZREM', LOST, name)
    redis.pcall('HDEL', FACTS, name)
  end
end

-- Take a worker out of the roster as lost, and tell of it.
local function lose(name, at, code)
  redis.pcall('ZADD', LOST, string.format('%.6f', at), name)
  redis.pcall('ZREM', ROSTER, name)
  redis.pcall('EXPIRE', LOST, LOST_KEPT_S)
  tell('kind', 'worker_lost', 'worker', name, 'code', code)
  count_metric('workers_lost', 1)
  prune_lost()
end

-- Tell of each worker whose lease has run out, once: it leaves the roster in the same step. Only of
-- args.names, if there are some.
local function tell_of_lost()
  local asked = nil
  if args.names then
    asked = {}
    for _, name in ipairs(args.names) do asked[name] = true end
  end
  local told = {}
  for _, name in ipairs(members('ZRANGEBYSCORE', ROSTER, 0, string.format('%.6f', now))) do
    if #told < MAX_TOLD and (not asked or asked[name]) then
      lose(name, tonumber(redis.call('ZSCORE', ROSTER, name)), 'worker_lost')
      told[#told + 1] = name
    end
  end
  return told
end
