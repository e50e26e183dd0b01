-- Find in one page of the events stream the jobs that were taken over from a lost worker.
-- args: first, last (ids of the stream; "+" is the newest), count.
-- Answer: {id of the page's last entry or "" at the end, job id, lost worker, job id, worker, ...}.
local entries = redis.call('XRANGE', EVENTS, args.first, args.last, 'COUNT', args.count)
local answer = {#entries == args.count and entries[#entries][1] or ''}
for _, entry in ipairs(entries) do
  local event = {}
  for i = 1, #entry[2], 2 do event[entry[2][i]] = entry[2][i + 1] end
  if event.kind == 'job_taken_over' then
    answer[#answer + 1], answer[#answer + 2] = event.job_id or '', event.worker or ''
  end
end
return answer
