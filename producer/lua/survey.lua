-- Look at one page of a batch's files and answer sums, so that a million files cost their reader
-- little; only what a report lists comes by name.
-- args: batch, cursor, count, states (ours by RQ's), since and until (RQ's stamps; '' is no bound),
-- slowest_over (seconds).
-- Answer: {cursor, sums as JSON, job ids of the worked, their numbers, notable, odd}
--   worked: jobs that ended within the bounds; ids with line feeds between, numbers as three
--     doubles each: start, end, seconds of audio.
--   notable: what, name, job id, detail, what, name, ... Of the files that ended within the bounds:
--     failed (code), flagged, flagged_whole (flags), empty, slow (seconds, audio).
--   odd: name, job id, ... of files whose hash does not say enough; their results may.
local FIELDS = {'status', 'code', 'audio_s', 'num_flagged', 'worker_name', 'started_at', 'ended_at',
  'is_empty', 'flags', 'model'}
local sums = {total = 0, audio_s = 0, num_flagged = 0, states = {}, codes = {}, workers = {},
  models = {}, run_states = {}, run_audio_s = 0, run_num_flagged = 0}
local ids, numbers, notable, odd = {}, {}, {}, {}
-- Locals are found faster than fields, which a million files make worth it.
local sub, pack, tonumber = string.sub, struct.pack, tonumber
local since, before, slowest_over = args.since, args['until'], args.slowest_over
local states = args.states

local function add(counter, key) counter[key] = (counter[key] or 0) + 1 end

-- What another program wrote may be no number, or none that JSON can hold.
local function number(text)
  local value = tonumber(text or '')
  return value and value >= 0 and value < 1e12 and value or 0
end

local function list(what, name, job_id, detail)
  local size = #notable
  notable[size + 1], notable[size + 2] = what, name
  notable[size + 3], notable[size + 4] = job_id, detail
end

-- Seconds since the epoch of RQ's YYYY-MM-DDTHH:MM:SS.ffffffZ; nil for what is no stamp. Minutes
-- are remembered: thousands of jobs share them. Days from a civil date: Howard Hinnant's.
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
  local head = sub(text, 1, 16)
  local minute = minutes[head]
  if minute == nil then
    minute = minute_of(head)
    minutes[head] = minute
  end
  local rest = tonumber(sub(text, 18, 26))
  return minute and rest and minute + rest or nil
end

local function look_at_ended(state, name, job_id, record)
  local audio_s, num_flagged = number(record[3]), number(record[4])
  if state == 'failed' then
    add(sums.codes, record[2])
  else
    sums.audio_s = sums.audio_s + audio_s
    sums.num_flagged = sums.num_flagged + num_flagged
  end
  -- Stamps are of one length, so that text compares as time does.
  local ended = record[7] or ''
  if ended < since or (before ~= '' and ended >= before) then return end
  add(sums.run_states, state)
  if record[5] and record[5] ~= '' then add(sums.workers, record[5]) end
  if state == 'failed' then
    list('failed', name, job_id, record[2])
  else
    if record[10] and record[10] ~= '' then add(sums.models, record[10]) end
    sums.run_num_flagged = sums.run_num_flagged + num_flagged
    if record[8] == '1' then list('empty', name, job_id, '') end
    if record[9] and record[9] ~= '' then
      list('flagged_whole', name, job_id, record[9])
    elseif num_flagged > 0 then
      list('flagged', name, job_id, '')
    end
  end
  local start, stop = seconds_of(record[6]), seconds_of(record[7])
  if start and stop then
    ids[#ids + 1] = job_id
    numbers[#numbers + 1] = pack('<ddd', start, stop, audio_s)
    -- A thousandth more: the numbers are rounded to it, and many may take equally long.
    if stop - start > slowest_over + 0.001 then
      list('slow', name, job_id, string.format('%.3f %.3f', stop - start, audio_s))
    end
  end
end

local page = redis.call('HSCAN', batch_key(args.batch), args.cursor, 'COUNT', args.count)
for i = 1, #page[2], 2 do
  local name, job_id = page[2][i], page[2][i + 1]
  -- A key of another type gives an error, which has no status.
  local record = redis.pcall('HMGET', job_key(job_id), unpack(FIELDS))
  local state = states[record[1] or ''] or 'lost'
  local has_ended = state == 'succeeded' or state == 'failed'
  sums.total = sums.total + 1
  if state == 'lost' or (has_ended and not record[2]) then
    odd[#odd + 1], odd[#odd + 2] = name, job_id
  else
    add(sums.states, state)
    if has_ended then look_at_ended(state, name, job_id, record) end
  end
end
return {page[1], cjson.encode(sums), table.concat(ids, '\n'), table.concat(numbers), notable, odd}
