-- Look at one page of a batch's files: the reader sums up what it answers.
-- args: batch, cursor, count, by_records (of a large batch: what jobs ended with is taken from the
-- batch's records, while its counts are trusted).
-- Answer: {cursor, files, records}, both as JSON: name, job id, name, ...; and for each file a record
-- as in ended.lua, or the state of one that has not ended, or "" where its hash does not say enough.
local function records_of(page)
  local counts = redis.pcall('HMGET', counts_key(args.batch), 'counted_at', 'dirty')
  if not args.by_records or counts.err or not counts[1] or counts[2] then return {} end
  local job_ids = {}
  for i = 2, #page, 2 do job_ids[i / 2] = page[i] end
  if #job_ids == 0 then return {} end
  local records = redis.pcall('HMGET', ended_key(args.batch), unpack(job_ids))
  return records.err and {} or records
end

local cursor, page = unpack(redis.call('HSCAN', batch_key(args.batch), args.cursor, 'COUNT',
  args.count))
local records = records_of(page)
for i = 1, #page / 2 do
  if not records[i] then
    local record, state = record_of(page[2 * i], 0)
    local is_odd = state == 'lost' or state == 'succeeded' or state == 'failed'
    records[i] = record or (is_odd and '' or state)
  end
end
return {cursor, cjson.encode(page), cjson.encode(records)}
