-- How many files of a batch stand where: kept by every script that moves a job. Behind ended.lua,
-- whose records it keeps as well.
--
-- The hash counts_key(batch) has the files by state, failed ones also as code:CODE; audio_ms,
-- num_flagged and num_empty of those that succeeded; ended, the files that ended since `run`, the
-- time of the last submission; worked_ms, in which a worker had a file of the batch, and the
-- worked_audio_ms done in it, as samples too; counted_at, absent while read_counts.lua counts all
-- files anew; dirty, if it must; epoch, the time at which it last began to.
--
-- A job's hash has `counted`, what it counts as now, and `batches`, JSON
-- {batch: [number of its names there, epoch, run in which it ended]}. An entry of another epoch is
-- not in the counts. A job leaves what it counts as, whatever its status was: so a status that
-- another RQ program changed is put right by the next step.
local COUNTED_STATES = {'queued', 'running', 'waiting', 'succeeded', 'failed', 'lost'}
-- Twenty samples of the work are kept, half a minute of work apart: the speed of ten minutes.
local SAMPLE_EVERY_MS, MAX_SAMPLES = 30000, 20
local MAX_CODE_BYTES = 100
local now_ms = math.floor(now * 1000)

-- A field of a hash, and nil for none, also if the key is no hash.
local function field(key, name)
  local value = redis.pcall('HGET', key, name)
  return type(value) == 'string' and value or nil
end

local function number_of(key, name) return tonumber(field(key, name)) or 0 end

local function is_whole(number)
  return type(number) == 'number' and number == math.floor(number) and math.abs(number) < 2 ^ 50
end

-- The entries of a job by batch; what is no entry is left out.
local function batches_of(job_id)
  local stored = field(job_key(job_id), 'batches')
  local is_json, decoded = pcall(cjson.decode, stored or '')
  local batches = {}
  if is_json and type(decoded) == 'table' then
    for batch, entry in pairs(decoded) do
      if type(batch) == 'string' and type(entry) == 'table' and is_whole(entry[1])
        and is_whole(entry[2]) then
        batches[batch] = {entry[1], entry[2], is_whole(entry[3]) and entry[3] or nil}
      end
    end
  end
  return batches
end

local function epoch_of(batch) return tonumber(field(counts_key(batch), 'epoch')) end

local function run_of(batch) return number_of(counts_key(batch), 'run') end

local function has_ended(counted)
  return counted == 'lost' or string.find(counted, '^succeeded') or string.find(counted, '^failed')
end

-- What a job without an outcome in its hash counts as: another program's, or one that is deleted.
local function standing_by_result(job_id, state)
  local stored = redis.pcall('GET', result_key(job_id))
  local is_json, result = pcall(cjson.decode, type(stored) == 'string' and stored or '')
  if not is_json or type(result) ~= 'table' then
    return state == 'failed' and 'failed:unknown' or 'lost'
  end
  if result.status ~= 'succeeded' then
    local error = type(result.error) == 'table' and result.error or {}
    return 'failed:' .. string.sub(tostring(error.code or 'unknown'), 1, MAX_CODE_BYTES)
  end
  local audio = type(result.audio) == 'table' and tonumber(result.audio.duration_s) or 0
  local num_flagged = 0
  for _, segment in ipairs(type(result.segments) == 'table' and result.segments or {}) do
    local flags = type(segment) == 'table' and segment.flags
    if type(flags) == 'table' and #flags > 0 then num_flagged = num_flagged + 1 end
  end
  local is_empty = not string.find(tostring(result.text or ''), '%S')
  return string.format('succeeded:%d:%d:%d', audio * 1000 + 0.5, num_flagged, is_empty and 1 or 0)
end

-- What a job counts as by its hash: a state, failed:CODE or
-- succeeded:AUDIO_MS:NUM_FLAGGED:IS_EMPTY.
local function standing(job_id)
  local job = redis.pcall('HMGET', job_key(job_id), 'status', 'code', 'audio_s', 'num_flagged',
    'is_empty')
  if job.err then job = {} end
  local state = STATE_OF[job[1] or ''] or 'lost'
  local is_end = state == 'succeeded' or state == 'failed'
  if state == 'lost' or is_end and not job[2] then return standing_by_result(job_id, state) end
  if not is_end then return state end
  if state == 'failed' then return 'failed:' .. string.sub(job[2], 1, MAX_CODE_BYTES) end
  return string.format('succeeded:%d:%d:%d', (tonumber(job[3] or nil) or 0) * 1000 + 0.5,
    tonumber(job[4] or nil) or 0, job[5] == '1' and 1 or 0)
end

local function add(batch, counted, num)
  local key = counts_key(batch)
  local state, detail = string.match(counted, '^(%a+):?(.*)$')
  if not state then return end
  redis.pcall('HINCRBY', key, state, num)
  if state == 'failed' then
    redis.pcall('HINCRBY', key, 'code:' .. detail, num)
  elseif state == 'succeeded' then
    local audio_ms, num_flagged, is_empty = string.match(detail, '^(%d+):(%d+):(%d+)$')
    if audio_ms then
      redis.pcall('HINCRBY', key, 'audio_ms', num * audio_ms)
      redis.pcall('HINCRBY', key, 'num_flagged', num * num_flagged)
      redis.pcall('HINCRBY', key, 'num_empty', num * is_empty)
    end
  end
end

local function sample(key, worked_ms, samples)
  local last_ms = tonumber(string.match(samples, '([%d.]+):[%d.]+$')) or 0
  if worked_ms - last_ms < SAMPLE_EVERY_MS then return end
  samples = (samples == '' and '0:0' or samples)
    .. string.format(',%d:%d', worked_ms, number_of(key, 'worked_audio_ms'))
  local _, num_commas = string.gsub(samples, ',', ',')
  if num_commas >= MAX_SAMPLES then samples = string.match(samples, ',(.*)$') end
  redis.pcall('HSET', key, 'samples', samples)
end

-- Add the time since the last touch to the batch's working time, if a worker had one of its files:
-- after more than a lease all of them were dead.
local function touch(batch)
  local key = counts_key(batch)
  local counts = redis.pcall('HMGET', key, 'touched_at', 'running', 'lease_s', 'samples')
  if counts.err then return end
  local lease_s = args.lease_s or tonumber(counts[3] or nil) or 0
  local gap_ms = now_ms - (tonumber(counts[1] or nil) or now_ms)
  if gap_ms ~= 0 or not counts[1] then
    redis.pcall('HSET', key, 'touched_at', string.format('%d', now_ms), 'lease_s', lease_s)
  end
  if gap_ms > 0 and gap_ms < lease_s * 1000 and (tonumber(counts[2] or nil) or 0) > 0 then
    local worked_ms = redis.pcall('HINCRBY', key, 'worked_ms', gap_ms)
    if type(worked_ms) == 'number' then sample(key, worked_ms, counts[4] or '') end
  end
end

local function keep_entries(job_id, batches, counted)
  local stored = next(batches) and cjson.encode(batches) or '{}'
  redis.pcall('HSET', job_key(job_id), 'batches', stored, 'counted', counted)
end

-- Count what the farm did, five minutes by five minutes, in the hash of its day: audio_ms,
-- succeeded and failed, each as SLOT:WHAT. At most 864 small fields a day, for eight days.
local WORK_SLOT_S, WORK_TTL_S = 300, 8 * 86400
local function count_work(what, number)
  local key = work_key(math.floor(now / 86400))
  local slot = math.floor(now % 86400 / WORK_SLOT_S)
  local sum = redis.pcall('HINCRBY', key, slot .. ':' .. what, number)
  if sum == number then redis.pcall('EXPIRE', key, WORK_TTL_S) end
end

-- Add the audio that a worker has done of a job by now: each second once, however often it was
-- begun again.
local function count_audio(job_id, batches, done_ms)
  local fresh_ms = math.floor(done_ms) - number_of(job_key(job_id), 'worked_ms')
  if fresh_ms <= 0 then return end
  redis.pcall('HSET', job_key(job_id), 'worked_ms', string.format('%d', done_ms))
  count_work('audio_ms', fresh_ms)
  for batch, entry in pairs(batches) do
    if entry[2] == epoch_of(batch) then
      redis.pcall('HINCRBY', counts_key(batch), 'worked_audio_ms', fresh_ms)
    end
  end
end

-- Keep or drop the records of a job that moved, in the batches that count it.
local function move_records(job_id, batches, before, after)
  if not has_ended(before) and not has_ended(after) then return end
  for batch, entry in pairs(batches) do
    if entry[2] == epoch_of(batch) then keep_record(batch, job_id, entry[1]) end
  end
end

-- Tell that nothing of a batch is left to do, unless files are still being submitted: then the end of
-- the submission asks again.
local function tell_if_done(batch)
  local counts = redis.pcall('HMGET', counts_key(batch), 'queued', 'running', 'waiting', 'counted_at',
    'succeeded', 'failed')
  if counts.err or not counts[4] or redis.call('EXISTS', submitting_key(batch)) == 1 then return end
  for i = 1, 3 do
    if (tonumber(counts[i] or nil) or 0) > 0 then return end
  end
  tell('kind', 'batch_done', 'batch', batch, 'num_succeeded', counts[5] or '0', 'num_failed',
    counts[6] or '0')
end

-- Move a job in the counts of its batches to where its hash says that it stands. Returns its
-- entries and what it counts as.
local function count_job(job_id)
  local batches = batches_of(job_id)
  if not next(batches) then return batches, standing(job_id) end
  local before, after = field(job_key(job_id), 'counted') or '', standing(job_id)
  for batch, entry in pairs(batches) do
    if entry[2] == epoch_of(batch) then
      touch(batch)
      if before ~= after then
        add(batch, before, -entry[1])
        add(batch, after, entry[1])
      end
      local run = run_of(batch)
      if has_ended(after) and not has_ended(before) then
        redis.pcall('HINCRBY', counts_key(batch), 'ended', entry[1])
        entry[3] = run
        tell_if_done(batch)
      elseif has_ended(before) and not has_ended(after) then
        if entry[3] == run then redis.pcall('HINCRBY', counts_key(batch), 'ended', -entry[1]) end
        entry[3] = nil
      end
    end
  end
  if before == 'running' then
    local audio_ms = string.match(after, '^succeeded:(%d+)')
    if audio_ms then count_audio(job_id, batches, tonumber(audio_ms)) end
  end
  if has_ended(after) then redis.pcall('HDEL', job_key(job_id), 'worked_ms') end
  if before ~= after then
    keep_entries(job_id, batches, after)
    move_records(job_id, batches, before, after)
  end
  return batches, after
end

-- Count one more name of a job in a batch.
local function join_batch(job_id, batch)
  local epoch = epoch_of(batch)
  if not epoch then return end
  local batches, counted = count_job(job_id)
  add(batch, counted, 1)
  if not next(batches) and redis.call('EXISTS', job_key(job_id)) == 0 then return end
  local entry = batches[batch] or {0, epoch}
  if entry[2] ~= epoch then entry = {0, epoch, entry[3]} end
  entry[1] = entry[1] + 1
  batches[batch] = entry
  keep_entries(job_id, batches, counted)
  keep_record(batch, job_id, entry[1])
end

local function is_counted(job_id, batch)
  local entry = batches_of(job_id)[batch]
  return entry ~= nil and entry[2] == epoch_of(batch)
end

-- Let the next reader count all files of the batch anew.
local function mark_dirty(batch)
  if epoch_of(batch) then redis.pcall('HSET', counts_key(batch), 'dirty', '1') end
end

-- Count one name of a job in a batch less.
local function leave_batch(job_id, batch)
  if not is_counted(job_id, batch) then return mark_dirty(batch) end
  local batches, counted = count_job(job_id)
  local entry = batches[batch]
  add(batch, counted, -1)
  if entry[3] == run_of(batch) then redis.pcall('HINCRBY', counts_key(batch), 'ended', -1) end
  entry[1] = entry[1] - 1
  if entry[1] <= 0 then
    batches[batch] = nil
    drop_record(batch, job_id)
  else
    keep_record(batch, job_id, entry[1])
  end
  keep_entries(job_id, batches, counted)
end

-- Begin to count: no file has been counted in the new epoch.
local function begin_epoch(batch)
  local key = counts_key(batch)
  local epoch = math.max(math.floor(now), (epoch_of(batch) or 0) + 1)
  for _, name in ipairs(redis.pcall('HKEYS', key)) do
    if string.find(name, '^code:') then redis.pcall('HDEL', key, name) end
  end
  redis.pcall('HDEL', key, 'audio_ms', 'num_flagged', 'num_empty', 'dirty', 'counted_at', 'cursor',
    unpack(COUNTED_STATES))
  redis.pcall('HSET', key, 'epoch', string.format('%d', epoch))
  redis.call('UNLINK', ended_key(batch))
end

local function has_files(batch)
  for _, state in ipairs(COUNTED_STATES) do
    if number_of(counts_key(batch), state) ~= 0 then return true end
  end
  return false
end

-- Begin the counts of a batch that has no file yet; what an expired one of that name left is gone.
local function ensure_counts(batch, ttl_s)
  local is_new = redis.call('EXISTS', batch_key(batch)) == 0
  if is_new and (not epoch_of(batch) or has_files(batch)) then
    redis.call('DEL', counts_key(batch))
    begin_epoch(batch)
    redis.call('HSET', counts_key(batch), 'counted_at', string.format('%d', now_ms),
      'began_at', string.format('%d', now_ms))
  end
  redis.call('EXPIRE', counts_key(batch), ttl_s)
  redis.call('EXPIRE', ended_key(batch), ttl_s)
end
