-- Look at one page of a batch's files and answer sums, so that a million files cost their reader
-- little; only what a report lists comes by name.
-- args: batch, cursor, count, by_records (of a large batch: what jobs ended with is taken from the
-- batch's records, while its counts are trusted), since and until (seconds since the epoch),
-- slowest_over (seconds).
-- Answer: {cursor, sums as JSON, numbers, copies, their numbers, notable, odd}
--   sums: total, states (files that have not ended), known and run (files that ended outside and
--     within the bounds, {label: [files, seconds of audio, flagged segments]}, labels as in
--     ended.lua), folders ({folder: [files, succeeded, failed, seconds of audio]}).
--   numbers: of jobs that were worked within the bounds, three doubles each: start, end, seconds of
--     audio.
--   copies: ids of such jobs that may stand for other files too, with line feeds between.
--   notable: what, name, job id, detail, what, name, ... Of the files that ended within the bounds:
--     failed (code), flagged, flagged_whole (flags), empty, slow (seconds, audio).
--   odd: name, job id, ... of files whose hash does not say enough; their results may.
local known, run, folders = {}, {}, {}
local sums = {total = 0, states = {}, known = known, run = run, folders = folders}
local numbers, copies, numbers_of_copies, notable, odd = {}, {}, {}, {}, {}
-- Locals are found faster than fields, which a million files make worth it.
local sub, match, unpack_record = string.sub, string.match, struct.unpack
-- A thousandth more: the numbers are rounded to it, and many may take equally long.
local since, before, slowest_over = args.since, args['until'], args.slowest_over + 0.001
local num_worked = 0

-- What is known of a label: the parts that decide what is listed.
local labels = {}
local function parts_of(label)
  local state, code, flags = match(label, '^(%a+)\t([^\t]*)\t[^\t]*\t[^\t]*\t[^\t]*\t([^\t]*)$')
  local is_label = state == 'succeeded' or state == 'failed'
  labels[label] = is_label
    and {is_failed = state == 'failed', code = code, flags = flags ~= '' and flags or nil}
  return labels[label]
end

local function list(what, name, job_id, detail)
  local size = #notable
  notable[size + 1], notable[size + 2] = what, name
  notable[size + 3], notable[size + 4] = job_id, detail
end

local function add_to_folder(name, parts, audio_s)
  local path = match(name, '^(.*)/') or ''
  local folder = folders[path]
  if not folder then
    folder = {0, 0, 0, 0}
    folders[path] = folder
  end
  folder[1] = folder[1] + 1
  if parts then
    local index = parts.is_failed and 3 or 2
    folder[index], folder[4] = folder[index] + 1, folder[4] + audio_s
  end
end

local function list_notable(name, job_id, parts, num_flagged, is_empty)
  if parts.is_failed then
    list('failed', name, job_id, parts.code)
    return
  end
  if is_empty == 1 then list('empty', name, job_id, '') end
  if parts.flags then
    list('flagged_whole', name, job_id, parts.flags)
  elseif num_flagged > 0 then
    list('flagged', name, job_id, '')
  end
end

-- Add what ended. Returns false for what is no record, as any program may leave it.
-- Most files ended well and are listed nowhere: this runs a million times, so it calls little.
local function look_at_ended(name, job_id, record)
  if #record < RECORD_BYTES then return false end
  local num_names, start, stop, audio_s, num_flagged, is_empty, at = unpack_record(RECORD, record)
  local label = sub(record, at)
  local parts = labels[label]
  if parts == nil then parts = parts_of(label) end
  if not parts or not (audio_s >= 0 and audio_s < 1e12) then return false end
  add_to_folder(name, parts, audio_s)
  local is_run = stop >= since and stop < before
  local groups = is_run and run or known
  local group = groups[label]
  if group then
    group[1], group[2], group[3] = group[1] + 1, group[2] + audio_s, group[3] + num_flagged
  else
    groups[label] = {1, audio_s, num_flagged}
  end
  if not is_run then return true end
  if parts.is_failed or parts.flags or num_flagged > 0 or is_empty == 1 then
    list_notable(name, job_id, parts, num_flagged, is_empty)
  end
  if not (start >= 0 and stop >= 0) then return true end
  if num_names == 1 then
    num_worked = num_worked + 1
    numbers[num_worked] = sub(record, FIRST_TIME, LAST_TIME)
  else
    copies[#copies + 1] = job_id
    numbers_of_copies[#copies] = sub(record, FIRST_TIME, LAST_TIME)
  end
  if stop - start > slowest_over then
    list('slow', name, job_id, string.format('%.3f %.3f', stop - start, audio_s))
  end
  return true
end

local function look_at(name, job_id)
  local record, state = record_of(job_id, 0)
  if record and look_at_ended(name, job_id, record) then return end
  add_to_folder(name)
  if record or state == 'lost' or state == 'succeeded' or state == 'failed' then
    odd[#odd + 1], odd[#odd + 2] = name, job_id
  else
    sums.states[state] = (sums.states[state] or 0) + 1
  end
end

local function records_of(page)
  local counts = redis.pcall('HMGET', counts_key(args.batch), 'counted_at', 'dirty')
  if not args.by_records or counts.err or not counts[1] or counts[2] then return {} end
  local job_ids = {}
  for i = 2, #page, 2 do job_ids[#job_ids + 1] = page[i] end
  if #job_ids == 0 then return {} end
  local records = redis.pcall('HMGET', ended_key(args.batch), unpack(job_ids))
  return records.err and {} or records
end

local cursor, page = unpack(redis.call('HSCAN', batch_key(args.batch), args.cursor, 'COUNT',
  args.count))
local records = records_of(page)
for i = 1, #page, 2 do
  local name, job_id, record = page[i], page[i + 1], records[(i + 1) / 2]
  if not record or not look_at_ended(name, job_id, record) then look_at(name, job_id) end
end
sums.total = #page / 2
return {cursor, cjson.encode(sums), table.concat(numbers), table.concat(copies, '\n'),
  table.concat(numbers_of_copies), notable, odd}
