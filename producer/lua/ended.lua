-- What a report needs of each job that ended, in one hash of its batch, job id -> record: so that a
-- page of files costs one call, not one for each job. Behind prelude.lua; counts.lua keeps it.
--
-- A record is text. A line has state, error code, worker, model, language and flags, with tabs
-- between; the next start, end (seconds since the epoch, -1 for none), seconds of audio, flagged
-- segments, 1 if there is no text, and for how many files of the batch the job stands (0: not known).
local STATE_OF = {
  created = 'waiting', queued = 'queued', started = 'running', deferred = 'waiting',
  scheduled = 'waiting', finished = 'succeeded', failed = 'failed', stopped = 'failed',
  canceled = 'failed',
}
local ENDED_FIELDS = {'status', 'code', 'audio_s', 'num_flagged', 'is_empty', 'worker_name', 'model',
  'language', 'flags', 'started_at', 'ended_at'}

-- What another program wrote may be no number, or none that JSON can hold.
local function sound_number(text)
  local value = tonumber(text or nil)
  return value and value >= 0 and value < 1e12 and value or 0
end

local function label_part(text) return text and string.gsub(text, '%c', '?') or '' end

-- Return a job's record and its state, by its hash; nil and its state while it has not ended, or if
-- its hash does not say enough.
local function record_of(job_id, num_names)
  local status, code, audio_s, num_flagged, is_empty, worker, model, language, flags, started,
    ended = unpack(job_fields(job_id, unpack(ENDED_FIELDS)))
  local state = STATE_OF[status or ''] or 'lost'
  if not code or state ~= 'succeeded' and state ~= 'failed' then return nil, state end
  local label = table.concat({state, label_part(code), label_part(worker), label_part(model),
    label_part(language), label_part(flags)}, '\t')
  return label .. string.format('\n%.6f %.6f %.14g %d %d %d', seconds_of(started) or -1,
    seconds_of(ended) or -1, sound_number(audio_s), sound_number(num_flagged),
    is_empty == '1' and 1 or 0, num_names), state
end

local function drop_record(batch, job_id) redis.pcall('HDEL', ended_key(batch), job_id) end

-- Keep what a job ended with, if it has; it lives as long as the batch's counts.
local function keep_record(batch, job_id, num_names)
  local record = record_of(job_id, num_names)
  if not record then return drop_record(batch, job_id) end
  local is_first = redis.call('EXISTS', ended_key(batch)) == 0
  redis.pcall('HSET', ended_key(batch), job_id, record)
  local ttl_s = is_first and redis.call('TTL', counts_key(batch)) or 0
  if ttl_s > 0 then redis.call('EXPIRE', ended_key(batch), ttl_s) end
end
