-- Count one page of a batch's files by RQ's word for where their jobs stand.
-- args: batch, cursor, count. Answer: {cursor, status, number, status, number, ...}; "" is unknown.
local page = redis.call('HSCAN', batch_key(args.batch), args.cursor, 'COUNT', args.count)
local counts, answer = {}, {page[1]}
for i = 2, #page[2], 2 do
  local status = redis.pcall('HGET', job_key(page[2][i]), 'status')
  -- A key of another type gives an error, which is a table.
  status = type(status) == 'string' and status or ''
  counts[status] = (counts[status] or 0) + 1
end
for status, number in pairs(counts) do
  answer[#answer + 1], answer[#answer + 2] = status, number
end
return answer
