-- Say what is known of every worker: those that said of themselves what they do, RQ's own workers,
-- and those that were lost within a day.
-- args: limit, max_bytes (of a document; a larger one is not sent).
-- Answer: {now, {{name, lease's end or "", lost at or "", paused until or "", document or nil,
-- queues, state, last heartbeat, death of RQ's record}, ...}, names of paused workers}.
local MAX_PAUSED = 2000
local answer, seen, paused, paused_names = {}, {}, {}, {}

if (tonumber(redis.pcall('HLEN', PAUSED)) or 0) <= MAX_PAUSED then
  local stored = redis.pcall('HGETALL', PAUSED)
  for i = 1, stored.err and 0 or #stored, 2 do
    paused[stored[i]] = string.sub(stored[i + 1], 1, 40)
    paused_names[#paused_names + 1] = stored[i]
  end
end

local function document_of(name)
  local size = redis.pcall('HSTRLEN', FACTS, name)
  if type(size) ~= 'number' then return '' end
  if size > args.max_bytes then return false end
  return text_at(FACTS, name) or ''
end

local function add(name, ends, lost)
  if seen[name] or #answer >= args.limit then return end
  seen[name] = true
  local document = document_of(name)
  local record = {'', '', '', ''}
  if ends == '' and lost == '' then
    local stored = redis.pcall('HMGET', worker_key(name), 'queues', 'state', 'last_heartbeat', 'death')
    for i = 1, 4 do
      record[i] = not stored.err and string.sub(stored[i] or '', 1, 4096) or ''
    end
  end
  answer[#answer + 1] = {string.sub(name, 1, 200), ends, lost, paused[known_as(name)] or '', document,
    unpack(record)}
end

local function with_scores(key)
  return members('ZREVRANGE', key, 0, args.limit - 1, 'WITHSCORES')
end

local alive, lost = with_scores(ROSTER), with_scores(LOST)
for i = 1, #alive, 2 do add(alive[i], alive[i + 1], '') end
local registered = redis.pcall('SMEMBERS', WORKERS)
local prefix = worker_key('')
for _, key in ipairs(registered.err and {} or registered) do
  if string.sub(key, 1, #prefix) == prefix then
    local name = string.sub(key, #prefix + 1)
    if not seen[name] and type(redis.pcall('ZSCORE', LOST, name)) ~= 'string' then
      add(name, '', '')
    end
  end
end
for i = 1, #lost, 2 do add(lost[i], '', lost[i + 1]) end
return {string.format('%.6f', now), answer, paused_names}
