-- Counters and histograms of all that ends, in one hash: whole numbers, so that nothing is lost in
-- adding, counted in the step that makes it true, so that no death counts it twice or not at all.
-- Behind prelude.lua; producer/metrics/stored.py reads it.
--
-- A field is `name|label|label`. Of a histogram `name|label|BOUND` are those up to a bound and above
-- the one before, `name_ms|label` the sum. Their number is bounded: what would be one more goes into
-- the field `overflow`.
local MAX_FIELDS = 5000
-- A farm that ended nothing for a year begins anew.
local YEAR_S = 365 * 86400

local function label_value(text)
  return (string.gsub(string.sub(tostring(text or ''), 1, 200), '[%c|]', '_'))
end

local function count_metric(field, by)
  local total = redis.pcall('HINCRBY', METRICS, field, by)
  -- It may be new.
  if total == by and redis.pcall('HLEN', METRICS) > MAX_FIELDS then
    redis.pcall('HDEL', METRICS, field)
    redis.pcall('HINCRBY', METRICS, 'overflow', 1)
  end
  if total == by then redis.pcall('EXPIRE', METRICS, YEAR_S) end
end

local function observe(name, label, ms, bounds)
  local bound = 'inf'
  for i = #bounds, 1, -1 do
    if ms <= bounds[i] * 1000 then bound = bounds[i] end
  end
  count_metric(name .. '|' .. label .. '|' .. bound, 1)
  count_metric(name .. '_ms|' .. label, ms)
end

local function whole_ms(number)
  number = tonumber(number) or 0
  return number > 0 and number < 2 ^ 50 and math.floor(number + 0.5) or 0
end

-- Count the end of a job: {queue, outcome, code}, and of one that a worker had {worker, model,
-- audio_ms, wait_ms, busy_ms, flags = {flag: 1 for the recording}}.
local function count_end(ended)
  local queue = label_value(string.match(ended.queue or '', '^[^@]*'))
  local outcome = label_value(ended.outcome)
  count_metric('jobs|' .. queue .. '|' .. outcome .. '|' .. label_value(ended.code), 1)
  redis.pcall('EXPIRE', METRICS, YEAR_S)
  if ended.busy_ms then
    observe('wait', queue, whole_ms(ended.wait_ms), WAIT_BOUNDS)
    observe('busy', outcome, whole_ms(ended.busy_ms), JOB_BOUNDS)
  end
  if ended.audio_ms then
    count_metric('audio_ms|' .. label_value(ended.worker) .. '|' .. label_value(ended.model),
      whole_ms(ended.audio_ms))
  end
  for flag, number in pairs(ended.flags or {}) do
    count_metric('flags|' .. label_value(flag), whole_ms(number))
  end
end
