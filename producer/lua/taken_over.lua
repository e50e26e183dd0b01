-- Find in one page of the events stream the jobs of a batch that were taken over from a lost worker,
-- and ended within the bounds.
-- args: batch, first, last (ids of the stream; "+" is the newest), count, since and until (seconds
-- since the epoch).
-- Answer: {id of the page's last entry or "" at the end, lost worker, ...}.
local function was_worked(job_id)
  local state, ended = unpack(job_fields(job_id, 'status', 'ended_at'))
  state = STATE_OF[state or '']
  local stop = seconds_of(ended) or -1
  return (state == 'succeeded' or state == 'failed') and batches_of(job_id)[args.batch]
    and stop >= args.since and stop < args['until']
end

local entries = redis.call('XRANGE', EVENTS, args.first, args.last, 'COUNT', args.count)
local answer = {#entries == args.count and entries[#entries][1] or ''}
for _, entry in ipairs(entries) do
  local event = {}
  for i = 1, #entry[2], 2 do event[entry[2][i]] = entry[2][i + 1] end
  if event.kind == 'job_taken_over' and was_worked(event.job_id or '') then
    answer[#answer + 1] = event.worker or ''
  end
end
return answer
